"""A training job says what is wrong with it before any file is opened."""

from pathlib import Path
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.training_request import TrainingRequest, folder_below


@pytest.mark.parametrize("fields", [{"create": True}, {"steps": 10, "data_root": "x"}, {"kind": "hypernetwork", "create": True}])
def test_good_requests_pass(fields: dict[str, Any]) -> None:
    TrainingRequest(**{"kind": "embedding", "name": "a word", **fields}).validate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "checkpoint"}, "cannot be trained"),
        ({"name": ""}, "has no name"),
        ({"name": "../x"}, "cannot be the name of a file"),
        ({"name": "a/b"}, "cannot be the name of a file"),
        ({"steps": -1}, "steps -1 is out of range"),
        ({"batch_size": 0}, "batch size 0"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"seed": 10**20}, "seed 100000000000000000000 is out of range"),
        ({"width": 100}, "no multiples of 8"),
        ({"vectors": 76}, "vectors 76"),
        ({"tag_drop_out": float("nan")}, "tag drop out nan"),
        ({"weight_init": "Zero"}, "choose one of: Normal"),
        ({"init_text": "x" * 1001}, "initialisation text"),
        ({"max_norm": float("inf")}, "limit of gradients"),
        ({"steps": 5}, "needs data_root"),
    ],
)
def test_others_are_refused_with_a_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        TrainingRequest(**{"kind": "embedding", "name": "a", **fields}).validate()


def test_folders_below_the_root_are_found_in_full_and_relative(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert folder_below(tmp_path, "a/b") == tmp_path / "a" / "b"
    assert folder_below(tmp_path, str(tmp_path / "a")) == tmp_path / "a"


@pytest.mark.parametrize("text", ["..", "/", "/etc", ".", "", "none", "file", "link", "a/../..", "a\0b"])
def test_no_other_folder_is_found_and_none_is_told_from_one_that_is_not_there(tmp_path: Path, text: str) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "file").touch()
    (root / "link").symlink_to("/etc")
    with pytest.raises(BadRequest, match="no folder"):
        folder_below(root, text)
