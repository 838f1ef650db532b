"""webui/service/gallery.py."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.service.handlers import picture, small
from webui.core.errors import MissingModel, StorageError
from webui.core.event import Picture
from webui.core.extras import ExtrasRequest
from webui.core.image_metadata import RECIPE, read_infotext
from webui.core.request import GenerationRequest
from webui.service import files as files_module
from webui.service import gallery as module
from webui.service.database import Database
from webui.service.gallery import Gallery, SavedPicture
from webui.service.queue import JobRow

JOB = JobRow(12, "job", "ann", "running", small(), True, 0.0, 0, 0, 1, "", 0)


@pytest.fixture
def gallery(database: Database, tmp_path: Path) -> Gallery:
    return Gallery(database, tmp_path / "outputs", tmp_path / "tmp")


def pictures(*seeds: int) -> list[Picture]:
    return [picture(small(seed=seed, prompt="ein Häuschen 🏠"), 0) for seed in seeds]


def save(gallery: Gallery, *seeds: int, job: JobRow = JOB, picture_format: str = "png") -> list[SavedPicture]:
    """Save and return what is new."""
    before = len(gallery.of_job(job.id))
    gallery.save(job, pictures(*seeds), picture_format, 80, again=job.deaths + job.restarts > 0)
    return list(gallery.of_job(job.id))[before:]


@pytest.mark.parametrize(("picture_format", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_carries_its_infotext_in_every_format(gallery: Gallery, picture_format: str, kind: str) -> None:
    (saved,) = save(gallery, 5, picture_format=picture_format)
    assert saved.path.name == f"00012-5.{picture_format}"
    with Image.open(saved.path) as image:
        assert (image.format, image.size) == (kind, (64, 64))
    assert read_infotext(saved.path).text == saved.infotext == "ein Häuschen 🏠\nSteps: 1, Seed: 5"


def test_no_file_is_ever_overwritten(gallery: Gallery, tmp_path: Path) -> None:
    (first,) = save(gallery, 5)
    first.path.write_bytes(b"somebody's")
    (second,) = save(gallery, 5)
    assert first.path.read_bytes() == b"somebody's"
    assert second.path.name == "00012-5-1.png"


def test_equal_pictures_of_a_job_are_all_kept(gallery: Gallery) -> None:
    saved = save(gallery, 5, 5, 5)
    assert len({one.path for one in saved}) == 3
    assert all(one.path.is_file() for one in saved)


def test_a_second_try_adds_only_what_is_missing(gallery: Gallery) -> None:
    save(gallery, 5, 6)
    assert [one.seed for one in save(gallery, 5, 6, 7, job=replace(JOB, deaths=1))] == [7]


def test_a_file_written_just_before_a_kill_is_taken_as_it_is(gallery: Gallery, database: Database) -> None:
    (first,) = save(gallery, 5)
    with database.write() as connection:
        connection.execute("DELETE FROM pictures")
    (again,) = save(gallery, 5, job=replace(JOB, restarts=1))
    assert again.path == first.path
    assert len(os.listdir(first.path.parent)) == 1


def test_nothing_half_written_is_ever_seen(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    fsync, replace_file = os.fsync, os.replace

    def look(folder: Path) -> None:
        seen.append([path.name for path in folder.iterdir() if not path.name.startswith(".")])

    def watched_replace(part: Path, path: Path) -> None:
        look(path.parent)
        assert read_infotext(part).text
        replace_file(part, path)

    synced: list[str] = []
    monkeypatch.setattr(files_module.os, "replace", watched_replace)
    monkeypatch.setattr(files_module.os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1])
    (one, two) = save(gallery, 5, 6)
    assert seen == [[], [one.path.name]]
    day = one.path.parent
    assert synced[:2] == [str(day.parent.parent), str(day.parent)]  # the new folders' names
    assert [Path(path).parent for path in synced[2:4]] == [day, day]  # two files
    assert synced[4:] == [str(day)]  # their names
    assert sorted(os.listdir(one.path.parent)) == [one.path.name, two.path.name]


def test_a_full_disk_leaves_no_trace_and_is_a_sentence(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; free disk space"):
        save(gallery, 5)
    assert [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()] == []
    assert gallery.of_job("job") == ()
    monkeypatch.undo()
    assert len(save(gallery, 5)) == 1


def test_pictures_without_rows_are_taken_in_from_what_they_say(gallery: Gallery, database: Database, tmp_path: Path) -> None:
    saved = save(gallery, 5, 6)
    with database.write() as connection:
        connection.execute("DELETE FROM pictures WHERE seed = 6")
    (saved[0].path.parent / "broken.png").write_bytes(b"broken")
    (saved[0].path.parent / "notes.txt").write_bytes(b"text")
    assert gallery.adopt(gallery.strangers()) == 1
    found = gallery.recent(9, 0, None)[0]
    assert (found.path, found.infotext, found.seed, found.width) == (saved[1].path, saved[1].infotext, 6, 64)
    request = database.read("SELECT request FROM pictures WHERE id = ?", (found.id,))[0][0]
    assert GenerationRequest.from_json(json.loads(request)) == small(seed=6, prompt="ein Häuschen 🏠")


def test_leftovers_of_a_kill_are_swept(gallery: Gallery, tmp_path: Path) -> None:
    (saved,) = save(gallery, 5)
    (saved.path.parent / ".00013-1.png.0f0f.easel-part").write_bytes(b"half")
    (saved.path.parent / "mine.easel-part").write_bytes(b"whole")
    gallery.sweep()
    assert sorted(os.listdir(saved.path.parent)) == ["00012-5.png", "mine.easel-part"]


def test_recent_pictures_are_paged_and_by_owner(gallery: Gallery) -> None:
    for number in range(4):
        save(gallery, number, job=replace(JOB, id=str(number), number=number, owner="ab"[number % 2]))
    save(gallery, 9, job=replace(JOB, id="9", save=False))
    assert [one.seed for one in gallery.recent(3, 0, None)] == [3, 2, 1]
    assert [one.seed for one in gallery.recent(3, 3, None)] == [0]
    assert [one.seed for one in gallery.recent(9, 0, "b")] == [3, 1]


def test_temporary_pictures_go_when_there_are_too_many(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_TEMPORARY", 2)
    old = save(gallery, 1, 2, 3, job=replace(JOB, save=False))
    assert all(one.path.is_file() for one in old)
    new = save(gallery, 4, job=replace(JOB, id="new", number=13, save=False))
    assert [one.path.is_file() for one in (*old, *new)] == [False, True, True, True]
    with pytest.raises(MissingModel):
        gallery.get(old[0].id)


@pytest.mark.parametrize("rewrite", [lambda path: path, os.fspath])
def test_rows_name_paths_below_the_outputs_so_that_the_folder_may_move(
    database: Database, tmp_path: Path, rewrite: Callable[[Path], Path]
) -> None:
    save(Gallery(database, tmp_path / "one", tmp_path / "tmp"), 5)
    os.rename(tmp_path / "one", tmp_path / "two")
    assert Gallery(database, Path(rewrite(tmp_path / "two")), tmp_path / "tmp").of_job("job")[0].path.is_file()


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_enlarged_pictures_keep_their_text_and_get_the_line_and_no_recipe(gallery: Gallery, kind: str) -> None:
    text, line = "a fox\nSteps: 1, Seed: 7", "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    request = ExtrasRequest(images=("a" * 64, "b" * 64), upscaler="Lanczos")
    made = [
        Picture(Image.new("RGB", (32, 32)), request.single(place), text, place=place, texts={"postprocessing": line, "workflow": "{}"})
        for place in (1, 0)
    ]
    gallery.save(replace(JOB, request=request), made, kind, 80)
    first, second = gallery.of_job(JOB.id)
    assert (first.place, second.place, first.seed) == (0, 1, 7)
    assert first.path.name == f"00012-upscaled-1.{kind}"
    found = read_infotext(first.path)
    assert RECIPE not in found.items
    if kind == "png":
        assert (found.text, found.items) == (text, {"postprocessing": line, "workflow": "{}"})
    else:
        assert found.text == f"{text}, {line}"
