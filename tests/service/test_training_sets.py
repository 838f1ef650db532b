import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from webui.core.errors import BadRequest, MissingModel
from webui.service.training_sets import TrainingPicture, TrainingSets


def png(prompt: str = "") -> bytes:
    file, told = io.BytesIO(), PngImagePlugin.PngInfo()
    if prompt:
        told.add_text("parameters", f"{prompt}\nSteps: 5, Sampler: Euler, Seed: 1, Size: 8x8")
    Image.new("RGB", (8, 8), "red").save(file, "PNG", pnginfo=told)
    return file.getvalue()


@pytest.fixture
def sets(tmp_path: Path) -> TrainingSets:
    return TrainingSets(tmp_path)


def test_pictures_lie_byte_for_byte_in_a_folder_of_their_set(sets: TrainingSets, tmp_path: Path) -> None:
    sets.add("cats", png(), "my cat.jpeg")
    assert (tmp_path / "training/cats/my cat.png").read_bytes() == png()
    assert sets.all() == {"cats": 1}


def test_a_prompt_that_a_picture_carries_is_its_caption(sets: TrainingSets) -> None:
    assert sets.add("cats", png("a red cat"), "a.png") == TrainingPicture("a.png", "a red cat")


def test_no_picture_takes_the_place_of_another(sets: TrainingSets) -> None:
    names = [sets.add("cats", png(), "../../a.png").file for _ in range(2)]
    sets.remove("cats", names[0])
    names.append(sets.add("cats", png(), "a.png").file)
    assert names == ["a.png", "a 2.png", "a 3.png"]


def test_a_caption_is_a_text_beside_its_picture(sets: TrainingSets, tmp_path: Path) -> None:
    file = sets.add("cats", png(), "a.png").file
    sets.describe("cats", file, " 猫 ")
    assert (tmp_path / "training/cats/a.txt").read_bytes() == "猫".encode()
    assert sets.pictures("cats") == [TrainingPicture("a.png", "猫")]
    sets.describe("cats", file, "")
    assert not (tmp_path / "training/cats/a.txt").exists()


def test_a_removed_picture_comes_back_with_its_caption(sets: TrainingSets) -> None:
    sets.add("cats", png("a cat"), "a.png")
    sets.remove("cats", "a.png")
    assert sets.pictures("cats") == []
    with pytest.raises(MissingModel):
        sets.path("cats", "a.png")
    sets.restore("cats", "a.png")
    assert sets.pictures("cats") == [TrainingPicture("a.png", "a cat")]


@pytest.mark.parametrize("name", ["", "..", "../other", "a/b", ".hidden"])
def test_a_set_lies_nowhere_else(sets: TrainingSets, name: str) -> None:
    with pytest.raises(BadRequest):
        sets.add(name, png(), "a.png")


@pytest.mark.parametrize("file", ["../secret.png", "", "removed", ".a.png"])
def test_only_pictures_of_the_set_are_given(sets: TrainingSets, tmp_path: Path, file: str) -> None:
    sets.add("cats", png(), "a.png")
    (tmp_path / "training/secret.png").write_bytes(png())
    for act in (sets.path, sets.remove, sets.restore):
        with pytest.raises((MissingModel, BadRequest)):
            act("cats", file)


def test_what_is_no_picture_is_refused(sets: TrainingSets) -> None:
    with pytest.raises(BadRequest):
        sets.add("cats", b"text", "a.png")
