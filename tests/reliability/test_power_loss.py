"""Row 26 of docs/reliability.md: what was acknowledged lasts; every name shows the old or the new content."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.disk import Watch, Wrapped, watched_by
from tests.reliability.test_full_disk import picture_bytes
from tests.service.handlers import picture, small
from webui.service.database import Database, open_database
from webui.service.files import PART, make_folder, sync_folder, write_whole
from webui.service.gallery import Gallery
from webui.service.inputs import InputStore
from webui.service.queue import JobQueue

OLD = b"old" * 1000
NEW = b"new content" * 1000
Event = tuple[str, Path, Any]  # "write", "sync", "rename" or "sync folder"


class Recorder(Watch):
    """Notes what goes to the disk in which order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, flags: int) -> int:
        handle = os.open(path, flags)
        self._paths[handle] = Path(path)
        return handle

    def fsync(self, handle: int) -> None:
        path = self._paths[handle]
        self.events.append(("sync folder" if path.is_dir() else "sync", path, None))

    def replace(self, old: Path, new: Path) -> None:
        self.events.append(("rename", Path(old), Path(new)))
        os.replace(old, new)

    def opened(self, path: Path, file: Any) -> Any:
        self._paths[file.fileno()] = path
        write = file.write

        def noted(data: bytes) -> int:
            self.events.append(("write", path, bytes(data)))
            return int(write(data))

        return Wrapped(file, noted)


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Event]]:
    recorder = Recorder()
    with watched_by(recorder, monkeypatch):
        yield recorder.events


def disks_after(events: list[Event], before: dict[Path, bytes]) -> Iterator[dict[Path, bytes]]:
    """What a disk may hold after a power cut that followed these events: of what was not synced, nothing, a half or all of it;
    of renames whose folder was not synced, each may have happened or not, earlier ones before later ones."""
    for kept in (0.0, 0.5, 1.0):
        unsynced = [i for i, (kind, path, _) in enumerate(events) if kind == "rename" and not _lasts(events, i)]
        for renamed in range(len(unsynced) + 1):
            happened = set(unsynced[:renamed])
            disk = dict(before)
            for i, (kind, path, data) in enumerate(events):
                if kind == "write":
                    synced = any(event[0] == "sync" and event[1] == path for event in events[i:])
                    disk[path] = disk.get(path, b"") + (data if synced else data[: int(len(data) * kept)])
                elif kind == "rename" and (i not in unsynced or i in happened):
                    disk[data] = disk.pop(path)
            yield disk


def _lasts(events: list[Event], rename: int) -> bool:
    return any(event[0] == "sync folder" and event[1] == events[rename][2].parent for event in events[rename:])


@pytest.mark.parametrize("before", [{}, {"x.json": OLD}])
def test_a_file_shows_its_old_or_its_new_content_after_every_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, bytes]
) -> None:
    path = tmp_path / "x.json"
    old = {tmp_path / name: data for name, data in before.items()}
    with recording(monkeypatch) as events:
        write_whole(path, NEW)
        sync_folder(tmp_path)
    assert [kind for kind, _, _ in events] == ["write", "sync", "rename", "sync folder"]
    for end in range(len(events) + 1):
        for disk in disks_after(events[:end], old):
            assert disk.get(path) in (old.get(path), NEW)
            if end == len(events):
                assert disk[path] == NEW


def test_the_check_sees_a_rename_that_comes_before_its_sync(tmp_path: Path) -> None:
    """The control: were the order wrong, the test above would fail."""
    part, path = tmp_path / "part", tmp_path / "x"
    events: list[Event] = [("write", part, NEW), ("rename", part, path), ("sync", path, None)]
    assert any(disk.get(path) not in (None, NEW) for disk in disks_after(events[:2], {}))


def test_pictures_and_inputs_last_before_their_rows_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database is asked to commit the rows, every file they name is safe, whatever the cut takes."""
    database, _ = open_database(tmp_path / "easel.sqlite3")
    queue, gallery = JobQueue(database), Gallery(database, tmp_path / "outputs", tmp_path / "tmp")
    request = small(seed=5, batch_size=3)
    queue.add("a", "", request, True)
    job = queue.take()
    assert job is not None
    at_commit: list[int] = []
    write = Database.write
    with recording(monkeypatch) as events, monkeypatch.context() as patch:
        patch.setattr(Database, "write", lambda self: at_commit.append(len(events)) or write(self))  # type: ignore[func-returns-value]
        gallery.save(job, [picture(request, i) for i in range(3)], "png", 80)
    pictures = gallery.of_job("a")
    assert len(pictures) == 3
    for disk in disks_after(events[: at_commit[0]], {}):
        assert all(disk[each.path] == each.path.read_bytes() for each in pictures)
    for end in range(len(events)):
        for disk in disks_after(events[:end], {}):
            assert all(disk[path] == path.read_bytes() for path in disk if not path.name.endswith(PART))
    database.close()


def test_an_input_lasts_when_its_hash_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, data = InputStore(tmp_path / "inputs"), picture_bytes()
    with recording(monkeypatch) as events:
        path = store.path(store.add(data))
    for disk in disks_after(events, {}):
        assert disk[path] == data


def test_new_folders_are_synced_into_the_ones_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(monkeypatch) as events:
        make_folder(tmp_path / "a" / "b")
    assert events == [("sync folder", tmp_path, None), ("sync folder", tmp_path / "a", None)]


# the database


def test_every_prefix_of_the_databases_log_holds_every_commit_that_was_complete(tmp_path: Path) -> None:
    """Its log is cut after every 1024 bytes: what was committed before the cut is there, the rest is not there at all."""
    path = tmp_path / "live" / "easel.sqlite3"
    database, _ = open_database(path)
    database.read("PRAGMA wal_autocheckpoint = 0")
    sizes = []
    queue = JobQueue(database)
    wal = path.with_name(path.name + "-wal")
    first = wal.stat().st_size
    for i in range(6):
        queue.add(f"job {i}", "", small(prompt="x" * 400 * i), True)
        sizes.append(wal.stat().st_size)
    tried = 0
    for cut in [*range(first, sizes[-1], 1024), sizes[-1]]:
        lost = tmp_path / "lost"
        shutil.rmtree(lost, ignore_errors=True)
        lost.mkdir()
        shutil.copy(path, lost / path.name)
        (lost / wal.name).write_bytes(wal.read_bytes()[:cut])
        again, warnings = open_database(lost / path.name)
        assert warnings == ()
        assert [row.id for row in JobQueue(again).find(None, None, 100)] == [f"job {i}" for i in range(6) if sizes[i] <= cut]
        assert again.read("PRAGMA integrity_check")[0][0] == "ok"
        again.close()
        tried += 1
    assert tried > 30
    database.close()
