"""webui/service/trash.py: what is thrown away can come back, whatever is killed in between."""

import errno
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.service.shelf import Shelf, opened
from webui.core.errors import StorageError
from webui.service import trash as module
from webui.service.gallery import TRASH
from webui.service.gallery_search import Search

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.service.shelf import opened
from webui.service import trash

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

with opened(Path(sys.argv[1])) as shelf:
    word, place = sys.argv[2], sys.argv[3]
    if place == "before the rows":
        trash.Trash._decide = die
    elif place == "before the files":
        trash.os.rename = die
    elif place == "between two files":
        rename, moved = os.rename, []
        def one(old, new):
            die() if moved else (rename(old, new), moved.append(new))
        trash.os.rename = one
    elif place == "after the files":
        trash.sync_folder = die
    elif place == "between file and rows":
        trash.forget_pictures = die
    numbers = [1, 2]
    getattr(shelf.collection, word)(numbers)
"""


def on_disk(shelf: Shelf) -> list[str]:
    return sorted(path.relative_to(shelf.outputs).as_posix() for path in shelf.outputs.rglob("*") if path.is_file())


def shown(shelf: Shelf, trashed: bool = False) -> list[int]:
    return [each.picture.id for each in shelf.collection.search(Search(trashed=trashed, order="oldest")).pictures]


def test_trashed_pictures_leave_the_gallery_and_come_back_as_they_were(shelf: Shelf) -> None:
    saved = shelf.seeds(1, 2, 3)
    before = {path: (shelf.outputs / path).read_bytes() for path in on_disk(shelf)}
    numbers = [each.id for each in saved]
    shelf.collection.set_favourite(numbers[:1], True)
    shelf.collection.tag(numbers[:1], ["keep"])
    shelf.collection.trash(numbers[:2])
    assert (shown(shelf), shown(shelf, trashed=True)) == (numbers[2:], numbers[:2])
    assert [path.startswith(f"{TRASH}/") for path in on_disk(shelf)] == [True, True, False]
    assert [each.id for each in shelf.gallery.recent(9, 0, None)] == numbers[2:]
    assert shelf.gallery.get(numbers[0]).path.is_file()  # it can still be looked at
    shelf.collection.restore(numbers[:2])
    assert {path: (shelf.outputs / path).read_bytes() for path in on_disk(shelf)} == before
    back = shelf.collection.get(numbers[0])
    assert (shown(shelf), back.favourite, back.tags, back.trashed) == (numbers, True, ("keep",), 0)


def test_a_name_that_was_taken_meanwhile_is_left_to_its_new_owner(shelf: Shelf) -> None:
    (saved,) = shelf.seeds(1)
    shelf.collection.trash([saved.id])
    saved.path.write_bytes(b"somebody's")
    shelf.collection.restore([saved.id])
    assert saved.path.read_bytes() == b"somebody's"
    assert shelf.gallery.get(saved.id).path.name == f"{saved.path.stem}-1.png"
    assert shelf.gallery.get(saved.id).path.is_file()


def test_equal_names_lie_in_the_trash_beside_each_other(shelf: Shelf) -> None:
    (first,) = shelf.seeds(1)
    shelf.collection.trash([first.id])
    stranger = shelf.outputs / TRASH / first.path.parent.name / first.path.name
    assert stranger.is_file()
    (second,) = shelf.seeds(2)
    os.rename(second.path, first.path)
    with shelf.database.write() as connection:
        connection.execute("UPDATE pictures SET path = ? WHERE id = ?", (first.path.relative_to(shelf.outputs).as_posix(), second.id))
    shelf.collection.trash([second.id])
    assert len(list(stranger.parent.iterdir())) == 2


def test_throwing_away_twice_and_bringing_back_twice_are_once(shelf: Shelf) -> None:
    (saved,) = shelf.seeds(1)
    for _ in range(2):
        shelf.collection.trash([saved.id, saved.id])
    assert shown(shelf, trashed=True) == [saved.id]
    for _ in range(2):
        shelf.collection.restore([saved.id, saved.id])
    assert shown(shelf) == [saved.id]
    assert saved.path.is_file()


def test_an_emptied_trash_leaves_neither_file_nor_row_nor_thumbnail(shelf: Shelf) -> None:
    numbers = [each.id for each in shelf.seeds(1, 2, 3)]
    for number in numbers:
        shelf.collection.thumbnail(number)
    shelf.collection.trash(numbers[:2])
    assert shelf.collection.empty_trash() == 2
    assert shown(shelf) == numbers[2:]
    assert len(on_disk(shelf)) == 1
    assert len(list((shelf.folder / "cache").rglob("*.webp"))) == 1
    for table in ("picture_facts", "pictures", "picture_words"):
        assert len(shelf.database.read(f"SELECT rowid FROM {table}")) == 1


def test_only_what_lies_in_the_trash_is_deleted(shelf: Shelf) -> None:
    numbers = [each.id for each in shelf.seeds(1, 2)]
    shelf.collection.trash(numbers[:1])
    assert shelf.collection.delete(numbers) == 1
    assert shown(shelf) == numbers[1:]


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> list[date]:
    """What the clock says: its last entry."""
    days = [date(2026, 3, 1)]

    class Clock(date):
        @classmethod
        def today(cls) -> date:  # type: ignore[override]
            return days[-1]

    monkeypatch.setattr(module, "date", Clock)
    return days


def test_the_trash_is_emptied_of_what_is_old_enough(shelf: Shelf, today: list[date]) -> None:
    one, two = (each.id for each in shelf.seeds(1, 2))
    trash = module.Trash(shelf.database, shelf.outputs)
    assert trash.older_than(3) == []
    trash.put([one])
    for day in range(2, 7):
        today.append(date(2026, 3, day))
        assert trash.older_than(3) == {4: [one], 5: [one], 6: [one, two]}.get(day, [])
        if day == 3:
            trash.put([two])
    today.append(date(2026, 3, 7))
    assert trash.older_than(5) == [one]


def test_a_clock_that_jumps_and_comes_back_empties_no_trash(shelf: Shelf, today: list[date]) -> None:
    (one,) = (each.id for each in shelf.seeds(1))
    trash = module.Trash(shelf.database, shelf.outputs)
    trash.older_than(30)
    trash.put([one])
    for jumped in (date(2027, 3, 1), date(1970, 1, 1), date(2026, 3, 1), date(2099, 1, 1)):
        today.append(jumped)
        assert trash.older_than(30) == []


@pytest.mark.parametrize("word", ["trash", "restore"])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_move_that_the_disk_refuses_leaves_all_pictures_where_they_were(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, word: str, failing: int
) -> None:
    numbers = [each.id for each in shelf.seeds(1, 2)]
    if word == "restore":
        shelf.collection.trash(numbers)
    before = on_disk(shelf)
    rename, calls = os.rename, []

    def refuse(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) == failing + 1:
            raise OSError(errno.EACCES, "Permission denied")
        rename(old, new)

    monkeypatch.setattr(module.os, "rename", refuse)
    with pytest.raises(StorageError, match="Permission denied; check that folder"):
        getattr(shelf.collection, word)(numbers)
    assert on_disk(shelf) == before
    assert shown(shelf, trashed=word == "restore") == numbers
    assert not shelf.database.read("SELECT * FROM picture_moves")


@pytest.mark.parametrize("place", ["before the rows", "before the files", "between two files", "after the files"])
@pytest.mark.parametrize("word", ["trash", "restore"])
def test_a_kill_leaves_pictures_whole_and_in_one_place(tmp_path: Path, word: str, place: str) -> None:
    with opened(tmp_path) as shelf:
        numbers = [each.id for each in shelf.seeds(1, 2)]
        contents = sorted((shelf.outputs / path).read_bytes() for path in on_disk(shelf))
        if word == "restore":
            shelf.collection.trash(numbers)
    kill(tmp_path, word, place)
    with opened(tmp_path) as shelf:
        shelf.collection.start(())
        shelf.collection.stop()
        decided = place != "before the rows"
        assert shown(shelf, trashed=(word == "trash") == decided) == numbers
        assert shown(shelf, trashed=(word == "trash") != decided) == []
        assert [shelf.gallery.get(number).path.is_file() for number in numbers] == [True, True]
        assert sorted((shelf.outputs / path).read_bytes() for path in on_disk(shelf)) == contents
        assert not shelf.database.read("SELECT * FROM picture_moves")


def test_a_kill_while_the_trash_is_emptied_brings_nothing_back(tmp_path: Path) -> None:
    with opened(tmp_path) as shelf:
        numbers = [each.id for each in shelf.seeds(1, 2, 3)]
        shelf.collection.trash(numbers[:2])
    kill(tmp_path, "delete", "between file and rows")
    with opened(tmp_path) as shelf:
        assert shown(shelf) == numbers[2:]
        assert shelf.gallery.strangers() == []
        assert shelf.collection.empty_trash() == 2
        assert shown(shelf, trashed=True) == []


def kill(folder: Path, word: str, place: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), word, place], timeout=60, check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
