"""webui/service/preferences.py."""

import pytest

from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES
from webui.service.database import Database
from webui.service.preferences import PreferenceStore

DEFAULTS = {preference.name: preference.default for preference in PREFERENCES}


def test_what_was_set_is_there_for_the_next_reader(database: Database) -> None:
    PreferenceStore(database).set({"jpeg_quality": "55", "live_previews_enable": 0})
    assert PreferenceStore(database).all() == DEFAULTS | {"jpeg_quality": 55, "live_previews_enable": False}


def test_one_wrong_value_means_that_none_is_set(database: Database) -> None:
    store = PreferenceStore(database)
    for wrong in ({"jpeg_quality": 1000}, {"samples_format": "exe"}, {"outputs_dir": "/"}):
        with pytest.raises(BadRequest, match=next(iter(wrong))):
            store.set({"CLIP_stop_at_last_layers": 2, **wrong})
    assert store.all() == DEFAULTS


def test_a_damaged_row_counts_as_not_set(database: Database) -> None:
    with database.write() as connection:
        connection.executemany(
            "INSERT INTO preferences VALUES (?, ?)", [("jpeg_quality", "{"), ("samples_format", '"exe"'), ("of_a_later_easel", "1")]
        )
    assert PreferenceStore(database).all() == DEFAULTS


def test_all_that_is_read_can_be_set_again(database: Database) -> None:
    store = PreferenceStore(database)
    store.set(store.all())
    assert store.all() == DEFAULTS
