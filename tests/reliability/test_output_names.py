"""Row 34 of docs/reliability.md: pictures are saved whatever their folder is called, or refused with the reason."""

import os
from pathlib import Path

import pytest

from tests.service.handlers import picture, small
from webui.core.errors import StorageError
from webui.core.image_metadata import read_infotext
from webui.service.database import open_database
from webui.service.gallery import Gallery
from webui.service.queue import JobQueue

NAMES = [
    *("plain", "with space", " leading", "trailing ", "dots...", ".hidden", "ünïcödé", "日本語", "русский", "العربية"),
    *("עברית", "हिन्दी", "한국어", "🎨🖌️", "👩‍👩‍👧‍👦", "a\u0301", "\u202eright", "\u200bzero", "quote'", 'double"', "back\\slash"),
    *("semi;colon", "amp&ersand", "dollar$HOME", "percent%20", "hash#", "question?", "star*", "pipe|", "less<greater>"),
    *("colon:name", "tab\tname", "line\nbreak", "-rf", "~", "CON", "x" * 255, "deep/" * 40 + "end", "network\\\\share"),
    *("{date}", "[seed]", "//double//slash"),
]  # fmt: skip
REFUSED = {"x" * 256: "File name too long", "y/" * 2100 + "end": "File name too long", "file/below": "File exists", "loop/x": "File exists"}


def save(folder: Path, outputs: Path) -> tuple[Gallery, Path]:
    database, _ = open_database(folder / "easel.sqlite3")
    try:
        queue, gallery = JobQueue(database), Gallery(database, outputs, folder / "tmp")
        request = small(seed=7, prompt="a cat")
        queue.add(os.urandom(4).hex(), "", request, True)
        job = queue.take()
        assert job is not None
        gallery.save(job, [picture(request, 0)], "png", 80)
        (saved,) = gallery.recent(10, 0, None)
        return gallery, saved.path
    finally:
        database.close()


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_picture_is_saved_and_found_in_a_folder_of_any_name(tmp_path: Path, number: int) -> None:
    outputs = tmp_path / NAMES[number].lstrip("/") / "outputs"
    _, path = save(tmp_path, outputs)
    assert path.is_relative_to(outputs)
    assert read_infotext(path).text.startswith("a cat")


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match=f"{REFUSED[name]}.*; free disk space or check the folder"):
        save(tmp_path, tmp_path / name)


def test_there_are_forty_names() -> None:
    assert len(NAMES) + len(REFUSED) >= 40
