"""Folders below outputs as a source of pictures, and no other place."""

from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import BadRequest, MissingModel
from webui.core.image_metadata import encode
from webui.service.inputs import InputStore
from webui.service.output_folders import OutputFolders


@pytest.fixture
def folders(tmp_path: Path) -> OutputFolders:
    for name, count in (("2026-01-01", 2), ("2026-01-02", 1), ("empty", 0)):
        folder = tmp_path / "outputs" / name
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.png").write_bytes(encode(Image.new("RGB", (4 + number, 4)), "", "png"))
    return OutputFolders(tmp_path / "outputs", InputStore(tmp_path / "inputs").add)


def test_folders_with_pictures_are_listed_the_newest_first(folders):
    assert folders.listed() == [("2026-01-02", 1), ("2026-01-01", 2)]


def test_a_folder_s_pictures_become_inputs(folders, tmp_path):
    found = folders.inputs("2026-01-01", 5)
    assert [name for name, _ in found] == ["0.png", "1.png"]
    assert InputStore(tmp_path / "inputs").size(found[1][1]) == (5, 4)


def test_what_is_no_picture_is_left_out(folders, tmp_path):
    (tmp_path / "outputs/2026-01-02/broken.png").write_text("words")
    (tmp_path / "outputs/2026-01-02/.hidden.png").write_text("words")
    assert [name for name, _ in folders.inputs("2026-01-02", 5)] == ["0.png"]


def test_too_many_are_told(folders):
    with pytest.raises(BadRequest, match="holds 2 pictures; at most 1"):
        folders.inputs("2026-01-01", 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../inputs", "/etc", "2026-01-01/..", "nowhere", "linked", "2026-01-01/0.png"])
def test_no_other_place_is_read(folders, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_bytes(encode(Image.new("RGB", (4, 4)), "", "png"))
    (tmp_path / "outputs/linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingModel, match="no folder"):
        folders.inputs(name, 5)


def test_links_to_files_elsewhere_are_left_alone(folders, tmp_path):
    (tmp_path / "secret.png").write_bytes(encode(Image.new("RGB", (4, 4)), "", "png"))
    (tmp_path / "outputs/2026-01-02/link.png").symlink_to(tmp_path / "secret.png")
    assert [name for name, _ in folders.inputs("2026-01-02", 5)] == ["0.png"]


def test_without_outputs_there_is_nothing(tmp_path):
    assert OutputFolders(tmp_path / "none", lambda data: "").listed() == []
