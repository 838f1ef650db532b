"""Row 28 of docs/reliability.md: whatever is damaged, Easel starts, keeps the bad file, says so, and finds the pictures again."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conftest import settings_for
from tests.service.handlers import picture, small
from webui.core.settings import Settings
from webui.service.model_rows import CardSearch
from webui.service.service import Service, open_service

SEEDS = (11, 12, 13)
STYLES = 'name,prompt,negative_prompt\n"old","a, b",c\n"two","{prompt}, d",\n'
DAMAGED = ("easel.sqlite3", "easel.sqlite3-wal", "easel.sqlite3-shm", "styles.csv", "easel.sqlite3.lock")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a kill leaves it: pictures, a job that waits, styles; the latest preference is in the database's log only."""
    folder = tmp_path_factory.mktemp("sound")
    service = open_service(settings_for(folder / "live"), "tests.service.handlers:make")  # its worker never starts
    (folder / "live" / "styles.csv").write_text(STYLES)
    for seed in SEEDS:
        service.submit(small(seed=seed), job_id=f"made-{seed}")
        row = service._queue.take()
        assert row is not None
        service._gallery.save(row, [picture(row.request, 0)], "png", 80)  # type: ignore[arg-type]
        service._queue.finish(row.id, "done", 2)
    service.submit(small(seed=1), job_id="waits")
    service._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    service.set_preferences({"jpeg_quality": 55})
    service.catalog.checkpoints()
    shutil.copytree(folder / "live", folder / "sound")
    service.stop()
    return folder / "sound"


def damage(path: Path, draw: random.Random) -> None:
    """One of the ways in which files go bad."""
    data = bytearray(path.read_bytes())
    way = draw.choice(["flip", "zero", "cut", "noise", "block", "empty", "text"])
    at = draw.randrange(max(len(data), 1))
    if way == "flip":
        for _ in range(draw.choice([1, 1, 10, 1000])):
            if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif way == "zero":
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    elif way == "cut":
        del data[at:]
    elif way == "noise":
        data[:] = draw.randbytes(len(data))
    elif way == "block":
        page = at // 4096 * 4096
        data[page : page + 4096] = draw.randbytes(len(data[page : page + 4096]))
    elif way == "empty":
        data.clear()
    else:
        data[at:at] = b"\xff\xfe<html>\0,\"'" * 20
    path.write_bytes(bytes(data))


def start_after(folder: Path, settings: Settings) -> Service:
    """As `Service.start` begins, without worker processes."""
    service = open_service(settings, "tests.service.handlers:make")
    service._queue.recover()
    service._gallery.sweep()
    service._gallery.adopt(service._lost_pictures())
    return service


def check_start(sound: Path, folder: Path, spoil: Callable[[Path], None]) -> bool:
    """Start over a damaged copy and use everything once; returns whether the database was begun anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    spoil(folder)
    service = start_after(folder, settings_for(folder))
    try:
        begun_anew = list(folder.glob("easel.sqlite3.bak-*"))
        if begun_anew:
            assert any("is kept as easel.sqlite3.bak-" in warning for warning in service.warnings)
            assert sorted(each.seed for each in service.recent_pictures()) == list(SEEDS)
        use_everything(service)
        return bool(begun_anew)
    finally:
        service.stop()


def use_everything(service: Service) -> None:
    assert service.preferences()["jpeg_quality"] in range(1, 101)
    service.set_preferences({"jpeg_quality": 44})
    assert service.preferences()["jpeg_quality"] == 44
    service.phrases.styles()
    service.recent_pictures()
    service.jobs(active_only=False)
    job_id = service.submit(small(seed=2))
    row = service._queue.take()
    while row is not None and row.id != job_id:
        row = service._queue.take()
    assert row is not None
    service._gallery.save(row, [picture(small(seed=2), 0)], "png", 80)
    service._queue.finish(row.id, "done", 2)
    assert [each.seed for each in service.job(job_id).pictures] == [2]
    service.models.search(CardSearch("lora", "", "", "name", False, 0, 10))
    service.catalog.refresh()


def starts(sound: Path, folder: Path, count: int, seed: int) -> None:
    draw, anew = random.Random(seed), 0
    for number in range(count):
        name = DAMAGED[number % len(DAMAGED)] if number % 2 else DAMAGED[0]

        def spoil(folder: Path, name: str = name) -> None:
            damage(folder / name, draw)

        anew += check_start(sound, folder, spoil)
    assert 0 < anew < count


def test_forty_damaged_folders_start(sound: Path, tmp_path: Path) -> None:
    starts(sound, tmp_path / "data", 40, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_hundred_damaged_folders_start(sound: Path, tmp_path: Path) -> None:
    starts(sound, tmp_path / "data", 800, seed=2)


@pytest.mark.parametrize("content", ["no json", '{"a":', "[]", "NaN", '"x"', "1e999", "null", '{"steps": "x"}'])
@pytest.mark.parametrize("row", ["UPDATE jobs SET request = ?", "UPDATE preferences SET value = ?", "UPDATE pictures SET request = ?"])
def test_damaged_rows_do_no_harm(sound: Path, tmp_path: Path, row: str, content: str) -> None:
    def spoil(folder: Path) -> None:
        connection = sqlite3.connect(folder / "easel.sqlite3", isolation_level=None)
        connection.execute(row, (content,))
        connection.close()

    assert not check_start(sound, tmp_path / "data", spoil)


def test_a_damaged_picture_is_passed_over_when_the_others_are_found_again(sound: Path, tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        first, *_ = sorted((folder / "outputs").rglob("*.png"))
        first.with_name("00000-cut.png").write_bytes(first.read_bytes()[:100])
        first.with_name("00000-empty.png").write_bytes(b"")
        first.with_name("00000-page.png").write_bytes(b"<html>")
        (folder / "easel.sqlite3").write_bytes(b"noise" * 1000)

    assert check_start(sound, tmp_path / "data", spoil)


def test_a_deleted_database_is_made_anew_from_the_pictures(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(sound, folder)
    for path in folder.glob("easel.sqlite3*"):
        path.unlink()
    service = start_after(folder, settings_for(folder))
    try:
        assert sorted(each.seed for each in service.recent_pictures()) == list(SEEDS)
        assert service.losses == ()
    finally:
        service.stop()


@pytest.mark.parametrize("with_log", [True, False])
def test_an_emptied_database_is_told_and_its_pictures_are_found_again_once(sound: Path, tmp_path: Path, with_log: bool) -> None:
    folder = tmp_path / "data"
    shutil.copytree(sound, folder)
    (folder / "easel.sqlite3").write_bytes(b"")
    log = (folder / "easel.sqlite3-wal").read_bytes()
    if not with_log:
        (folder / "easel.sqlite3-wal").unlink()
    service = start_after(folder, settings_for(folder))
    try:
        assert sorted(each.seed for each in service.recent_pictures()) == list(SEEDS)
        assert service.losses[0].startswith("the database was empty")
        assert [path.read_bytes() for path in folder.glob("easel.sqlite3.bak-*-wal")] == [log] * with_log
    finally:
        service.stop()


def test_what_a_damaged_log_loses_is_told_and_its_pictures_are_found_again_once(sound: Path, tmp_path: Path) -> None:
    """A job whose end is lost with the log runs again: it takes its own picture over."""
    folder = tmp_path / "data"
    shutil.copytree(sound, folder)
    service = start_after(folder, settings_for(folder))
    service._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    job_id = service.submit(small(seed=40))
    row = service._queue.take()
    while row is not None and row.id != job_id:
        row = service._queue.take()
    assert row is not None
    service._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    service._gallery.save(row, [picture(small(seed=40), 0)], "png", 80)
    shutil.copytree(folder, tmp_path / "killed")
    service.stop()
    log = tmp_path / "killed" / "easel.sqlite3-wal"
    data = bytearray(log.read_bytes())
    data[1000] ^= 1
    log.write_bytes(data)

    service = start_after(tmp_path / "killed", settings_for(tmp_path / "killed"))
    try:
        assert ["log was damaged; it is kept as easel.sqlite3-wal.bak-" in loss for loss in service.losses] == [True]
        assert sorted(each.seed for each in service.recent_pictures()) == [*SEEDS, 40]
        again = service._queue.get(job_id)
        service._gallery.save(again, [picture(small(seed=40), 0)], "png", 80, again=True)
        assert sorted(each.seed for each in service.recent_pictures()) == [*SEEDS, 40]
        assert [each.seed for each in service.job(job_id).pictures] == [40]
    finally:
        service.stop()
