"""webui/service/gallery_upkeep.py: what the gallery does in the background."""

import sqlite3
from pathlib import Path

import pytest

from tests.service.conftest import until
from tests.service.handlers import small
from tests.service.shelf import Shelf, opened
from webui.core.request import InitImage
from webui.service import gallery_upkeep as module
from webui.service.database import open_database
from webui.service.gallery_search import Search
from webui.service.migrations import MIGRATIONS, migrate
from webui.service.picture_rows import NewPicture, insert_picture

DERIVED = ("picture_facts", "picture_words", "picture_labels", "picture_sources", "input_pixels")


def wait_until_idle(shelf: Shelf) -> None:
    until(
        lambda: (
            shelf.collection.upkeeping.text == ""
            and not shelf.database.read("SELECT 1 FROM picture_facts WHERE sha256 = '' AND missing = 0")
        )
    )


def texts(shelf: Shelf, text: str = "") -> list[int]:
    return [each.picture.seed for each in shelf.collection.search(Search(text=text, order="oldest")).pictures]


def lose(shelf: Shelf, *tables: str) -> None:
    with shelf.database.write() as connection:
        for table in tables:
            connection.execute(f"DELETE FROM {table}")


def test_pictures_of_an_earlier_version_come_into_the_search(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    (parent, *_) = shelf.seeds(1, 2, 3, 4, 5, prompt="a fox")
    (child,) = shelf.save(small(seed=6, prompt="a fox", init=InitImage(image=shelf.inputs.add(parent.path.read_bytes()))))
    lose(shelf, *DERIVED)
    assert texts(shelf) == []
    shelf.collection.start(())
    try:
        until(lambda: texts(shelf, "fox") == [1, 2, 3, 4, 5, 6])
        until(lambda: shelf.collection.relatives(child.id)[0])
        wait_until_idle(shelf)
    finally:
        shelf.collection.stop()
    rows = shelf.database.read("SELECT sha256, pixels FROM picture_facts")
    assert all(len(row["sha256"]) == len(row["pixels"]) == 64 for row in rows)


def test_the_migration_takes_over_an_earlier_database(tmp_path: Path) -> None:
    before = next(number for number, script in enumerate(MIGRATIONS) if "picture_facts" in script)
    connection = sqlite3.connect(tmp_path / "easel.sqlite3", isolation_level=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webui.service.migrations.MIGRATIONS", MIGRATIONS[:before])
        migrate(connection)
    names = "job, owner, temporary, path, infotext, request, seed, width, height, created"
    values = "'j', 'ann', ?, 'old.png', 'a fox' || char(10) || 'Steps: 3, Sampler: Euler, Seed: 7', '{}', 7, 64, 64, 5.0"
    for temporary in (0, 1):
        connection.execute(f"INSERT INTO pictures ({names}) VALUES ({values})", (temporary,))
    connection.close()
    with opened(tmp_path) as shelf:
        shelf.collection.start(())
        until(lambda: texts(shelf, "fox euler") == [7])
        shelf.collection.stop()


def test_a_lost_database_is_made_again_from_the_files(tmp_path: Path) -> None:
    with opened(tmp_path) as shelf:
        _, thrown = shelf.seeds(1, 2, prompt="a fox")
        shelf.collection.trash([thrown.id])
    (tmp_path / "easel.sqlite3").write_bytes(b"noise" * 1000)
    for companion in tmp_path.glob("easel.sqlite3-*"):
        companion.unlink()
    database, warnings = open_database(tmp_path / "easel.sqlite3")
    shelf = Shelf(tmp_path, database)
    assert warnings
    shelf.collection.start(shelf.gallery.strangers())
    until(lambda: texts(shelf, "fox") == [1])
    until(lambda: shelf.collection.count(Search(trashed=True)) == 1)
    shelf.collection.restore([shelf.collection.search(Search(trashed=True)).pictures[0].picture.id])
    assert thrown.path.is_file()
    shelf.collection.stop()
    database.close()


def test_looking_again_takes_in_new_files_and_tells_which_are_missing(shelf: Shelf) -> None:
    gone, there = shelf.seeds(1, 2)
    shelf.collection.start(())
    try:
        old_set = shelf.outputs / "txt2img-images" / "2023-01-01"
        old_set.mkdir(parents=True)
        (old_set / "0001.png").write_bytes(there.path.read_bytes())
        (old_set / "broken.png").write_bytes(b"no picture")
        gone.path.unlink()
        shelf.collection.look_again()
        until(lambda: shelf.collection.count(Search(missing=True)) == 1)
        assert shelf.collection.count(Search()) == 3
        gone.path.write_bytes(there.path.read_bytes())
        shelf.collection.look_again()
        until(lambda: shelf.collection.count(Search(missing=True)) == 0)
    finally:
        shelf.collection.stop()


@pytest.mark.parametrize(("days", "left"), [(30, 0), (0, 1), (40, 1)])
def test_the_trash_is_emptied_after_as_many_days_as_preferred(shelf: Shelf, days: int, left: int) -> None:
    shelf.preferences["trash_days"] = days
    (saved,) = shelf.seeds(1)
    shelf.collection.trash([saved.id])
    with shelf.database.write() as connection:
        connection.executemany("INSERT INTO days_of_use (day) VALUES (?)", [(f"2026-01-{day:02d}",) for day in range(1, 32)])
    shelf.collection._upkeep._do_all()
    assert shelf.collection.count(Search(trashed=True)) == left


def test_a_picture_taken_in_before_its_own_job_told_of_it_is_one_picture(shelf: Shelf) -> None:
    (saved,) = shelf.seeds(1, prompt="a fox")
    lose(shelf, "pictures", *DERIVED)
    assert shelf.gallery.adopt(shelf.gallery.strangers()) == 1
    with shelf.database.write() as connection:
        connection.execute("UPDATE picture_facts SET favourite = 1")
    (again,) = shelf.gallery.recent(9, 0, None)
    with shelf.database.write() as connection:
        new = NewPicture(
            path=f"{saved.path.parent.name}/{saved.path.name}",
            infotext="x",
            request="{}",
            seed=1,
            width=64,
            height=64,
            created=1.0,
            owner="ann",
        )
        number = insert_picture(connection, new)
    shown = shelf.collection.get(number)
    assert (number, shown.favourite, shown.picture.owner) == (again.id, True, "ann")
    assert shelf.collection.count(Search()) == 1


def test_files_that_cannot_be_read_are_asked_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved,) = shelf.seeds(1)
    with shelf.database.write() as connection:
        connection.execute("UPDATE picture_facts SET sha256 = ''")
    saved.path.unlink()
    asked: list[Path] = []
    hashes = module._hashes
    monkeypatch.setattr(module, "_hashes", lambda path: (asked.append(path), hashes(path))[1])
    for _ in range(2):
        shelf.collection._upkeep._do_all()
    assert (asked, shelf.collection.count(Search(missing=True))) == ([saved.path], 1)
