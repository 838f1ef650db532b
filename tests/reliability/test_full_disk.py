"""Row 27 of docs/reliability.md: a full or read-only disk costs a readable 507 and nothing else; what was made can be seen all the same."""

import errno
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.disk import Watch, Wrapped, watched_by
from tests.service.conftest import settings_for, until
from tests.service.handlers import picture, small
from tests.service.test_service import done, running
from webui.core.errors import StorageError
from webui.core.image_metadata import open_image, read_infotext
from webui.service.database import open_database
from webui.service.files import PART
from webui.service.gallery import Gallery
from webui.service.inputs import InputStore
from webui.service.queue import JobQueue
from webui.service.service import Service, open_service
from webui.service.unsaved import KEPT, Unsaved

SIZE = 4 * 2**20  # bytes of the disk
FREE = (0, 4096, 8192, 16384, 24576, 40960)  # bytes that are left on it when the pictures come


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def service(disk: Path) -> Iterator[Service]:
    service = open_service(settings_for(disk / "data"), "tests.service.handlers:make")
    service.start()
    yield service
    service.stop()


def fill(disk: Path, leave: int) -> Path:
    facts = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(max(facts.f_bavail * facts.f_frsize - leave, 0)))
    return filler


def test_a_disk_that_is_full_at_any_moment_costs_one_sentence_and_no_restart(disk: Path, service: Service) -> None:
    go = service.settings.data_dir / "go"
    for number, leave in enumerate(FREE):
        job_id = service.submit(small(prompt="hold", batch_count=2, seed=number))
        running(service, job_id)
        filler = fill(disk, leave)
        go.symlink_to("/")  # which takes no room
        job = done(service, job_id)
        assert (job.status, job.error_status) == ("failed", 507), leave
        assert "free disk space" in job.error
        assert [read_infotext(each.path).text for each in job.pictures] == [each.infotext for each in job.pictures] != []
        assert [service.picture(each.id).path for each in job.pictures] == [each.path for each in job.pictures]
        until(lambda: service.worker_state().startswith("paused: "))
        with pytest.raises(StorageError, match="free disk space"):
            service.submit(small(prompt="x" * 50_000))
        filler.unlink()
        until(lambda: service.worker_state() == "ready")
        assert done(service, service.submit(small(prompt="next"))).status == "done"
        go.unlink()
    check_files(service)


def test_the_jobs_behind_a_full_disk_wait_for_it(disk: Path, service: Service) -> None:
    first = service.submit(small(prompt="hold"))
    running(service, first)
    others = [service.submit(small(seed=i)) for i in range(5)]
    filler = fill(disk, 300_000)  # enough for the database, not for a trial of the outputs
    outputs = service.settings.outputs_dir
    outputs.write_text("in the way")
    (service.settings.data_dir / "go").touch()
    assert done(service, first).error_status == 507
    until(lambda: service.worker_state().startswith("paused: "))
    assert [service.job(job_id).status for job_id in others] == ["queued"] * 5
    outputs.unlink()
    filler.unlink()
    assert [done(service, job_id).status for job_id in others] == ["done"] * 5


def test_read_only_outputs_are_told_and_taken_up_again(disk: Path, tmp_path: Path) -> None:
    settings = replace(settings_for(tmp_path / "data"), outputs_dir=disk)
    service = open_service(settings, "tests.service.handlers:make")
    service.start()
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        job = done(service, service.submit(small(seed=3)))
        assert (job.status, job.error_status, job.pictures[0].seed) == ("failed", 507, 3)
        assert "Read-only file system" in job.error
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert done(service, service.submit(small(seed=3))).pictures[0].path.is_relative_to(disk)
    finally:
        service.stop()


def check_files(service: Service) -> None:
    """Every picture on disk is whole; nothing is left of what could not be written."""
    written = [path for path in service.settings.outputs_dir.rglob("*") if path.is_file()]
    assert len(written) >= len(FREE)
    for path in written:
        assert path.suffix == ".png"
        open_image(path.read_bytes())
    for each in service.recent_pictures(1000):
        assert read_infotext(each.path).text == each.infotext


# every single call, one after the other


class Refusing(Watch):
    """The call of number `at` fails as on a full disk."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self._counted(found) if name in ("fsync", "replace", "open") else found

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._count()
            return function(*arguments)

        return call

    def open_file(self, path: Path, mode: str) -> Any:
        self._count()
        return super().open_file(path, mode)

    def opened(self, path: Path, file: Any) -> Any:
        write = file.write

        def half(data: bytes) -> int:
            write(data[: len(data) // 2])
            self._count()
            return int(write(data[len(data) // 2 :]))

        return Wrapped(file, half)


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except StorageError as error:
        return str(error)
    return ""


def test_whichever_call_of_a_save_fails_the_next_try_has_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = small(seed=5, batch_size=2)
    pictures = [picture(request, i) for i in range(2)]
    for at in range(1, 100):
        folder = tmp_path / str(at)
        database, _ = open_database(folder / "easel.sqlite3")
        queue, gallery = JobQueue(database), Gallery(database, folder / "outputs", folder / "tmp")
        queue.add("a", "", request, True)
        job = queue.take()
        assert job is not None
        refusing = Refusing(at)
        with watched_by(refusing, monkeypatch):
            told = refusal(lambda: gallery.save(job, pictures, "png", 80))  # noqa: B023 - called at once
        assert not told or "No space left on device; free disk space" in told
        assert not list(folder.rglob(f"*{PART}"))
        for file in folder.rglob("*.png"):
            open_image(file.read_bytes())
        gallery.save(job, pictures, "png", 80, again=True)
        assert [each.seed for each in gallery.of_job("a")] == [5, 6]
        assert len(list(folder.rglob("*.png"))) == 2
        database.close()
        if not told:
            break
    assert at > 12  # folders, two files of four calls each, the folder's sync


def test_whichever_call_of_an_input_fails_nothing_half_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture_bytes()
    for at in range(1, 100):
        store = InputStore(tmp_path / str(at))
        refusing = Refusing(at)
        with watched_by(refusing, monkeypatch):
            told = refusal(lambda: store.add(data))  # noqa: B023 - called at once
        assert store.path(store.add(data)).read_bytes() == data
        if not told:
            break
        assert "free disk space" in told
    assert at > 6


def picture_bytes() -> bytes:
    stream = io.BytesIO()
    picture(small(seed=1), 0).image.save(stream, "PNG")
    return stream.getvalue()


def test_unsaved_pictures_do_not_fill_the_memory(tmp_path: Path) -> None:
    database, _ = open_database(tmp_path / "easel.sqlite3")
    queue, unsaved = JobQueue(database), Unsaved()
    queue.add("a", "", small(seed=1), True)
    job = queue.take()
    database.close()
    assert job is not None
    unsaved.add(job, [picture(small(seed=i), 0) for i in range(KEPT + 5)])
    kept = unsaved.of_job("a")
    assert [each.seed for each in kept] == list(range(5, KEPT + 5))
    assert len(list(kept[0].path.parent.iterdir())) == KEPT
    folder = kept[0].path.parent
    del unsaved
    assert not folder.exists()
