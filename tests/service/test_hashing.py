"""webui/service/hashing.py."""

import os
import sys
import threading
from pathlib import Path

import pytest

from tests.service.conftest import until, write_checkpoint
from webui.core import catalog as catalog_module
from webui.core.catalog import Catalog, sha256_of
from webui.core.settings import Settings
from webui.service.database import Database
from webui.service.hashing import Hasher, HashRows


def test_a_sum_counts_only_for_the_same_file_time_and_size(database: Database) -> None:
    rows, path = HashRows(database), Path("/models/a.safetensors")
    rows.put(path, 1732140000.123456789, 5, "a" * 64)
    assert HashRows(database).get(path, 1732140000.123456789, 5) == "a" * 64
    assert rows.get(path, 1732140000.5, 5) is None
    assert rows.get(path, 1732140000.123456789, 6) is None
    rows.put(path, 2.0, 6, "b" * 64)
    assert rows.get(path, 2.0, 6) == "b" * 64
    assert rows.get(path, 1732140000.123456789, 5) is None


def test_without_a_database_sums_last_as_long_as_the_process_and_nothing_fails(database: Database) -> None:
    rows, path = HashRows(database), Path("/models/a.safetensors")
    database.close()
    assert rows.get(path, 1.0, 5) is None
    rows.put(path, 1.0, 5, "a" * 64)
    assert rows.get(path, 1.0, 5) == "a" * 64
    assert HashRows(database).get(path, 1.0, 5) is None


def test_large_files_get_their_sum_in_the_background(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "HASHED_AT_ONCE", 0)
    path = write_checkpoint(settings.checkpoint_dirs[0] / "large.safetensors")
    catalog = Catalog(settings, HashRows(database))
    assert catalog.find_checkpoint("large").sha256 is None
    hasher = Hasher(catalog)
    hasher.start()
    until(lambda: catalog.find_checkpoint("large").sha256)
    if sys.platform == "linux":  # behind all other work
        hashing = [thread.native_id or 0 for thread in threading.enumerate() if thread.name == "easel-hashing"]
        assert {os.getpriority(os.PRIO_PROCESS, number) for number in hashing} == {19}
    hasher.stop()
    assert catalog.find_checkpoint("large").sha256 == sha256_of(path)
    assert Catalog(settings, HashRows(database)).find_checkpoint("large").sha256 == sha256_of(path)
