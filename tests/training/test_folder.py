"""Folders of pictures become examples: one size, captions by templates, nothing from outside the data folder."""

from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import BadRequest
from webui.core.training_request import TrainingRequest
from webui.training.folder import TEMPLATES, read_examples, read_template


def request(**fields) -> TrainingRequest:
    return TrainingRequest(**{"kind": "embedding", "name": "sks", "width": 64, "height": 32, "steps": 1, "data_root": "x", **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, the first with a text beside it."""
    made = tmp_path / "data" / "pictures"
    made.mkdir(parents=True)
    Image.new("RGB", (100, 80), "red").save(made / "1-a dog.png")
    Image.new("RGBA", (20, 90), "blue").save(made / "002 a cat.webp")
    (made / "1-a dog.txt").write_text("dog, red, small\n")
    (made / "notes.md").write_text("no picture")
    return made


def test_pictures_are_cut_to_one_size_in_the_order_of_their_names(folder: Path) -> None:
    found = list(read_examples(folder, request(), folder.parent))
    assert [picture.size for picture, _ in found] == [(64, 32)] * 2
    assert [picture.getpixel((32, 16))[2] > 200 for picture, _ in found] == [True, False]


def test_captions_are_the_text_beside_a_picture_else_its_name_in_every_line_of_the_template(folder: Path) -> None:
    (_, cat), (_, dog) = read_examples(folder, request(template="style_filewords.txt"), folder.parent)
    assert cat == ("a cat, in the style of sks", "a picture of a cat, in the style of sks")
    assert dog == ("dog, red, small, in the style of sks", "a picture of dog, red, small, in the style of sks")


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_says_what_it_is_called_for(name: str) -> None:
    lines = "".join(TEMPLATES[name])
    assert ("[name]" in lines) == (name not in ("none", "hypernetwork"))
    assert ("[filewords]" in lines) == (name.endswith("filewords") or name == "hypernetwork")


def test_templates_of_ones_own_come_from_their_folder_alone(folder: Path) -> None:
    own = folder.parent / "textual_inversion_templates"
    own.mkdir()
    (own / "mine.txt").write_text("  [name] at dusk \n\n")
    (own / "subject.txt").write_text("[name] first")
    assert read_template("mine", folder.parent) == ("[name] at dusk",)
    assert read_template("subject.txt", folder.parent) == ("[name] first",)
    for wrong in ("../pictures/1-a dog", "/etc/passwd", "none there", ""):
        with pytest.raises(BadRequest):
            read_template(wrong, folder.parent)


def test_tags_are_shuffled_and_left_out_the_same_way_for_a_seed(folder: Path) -> None:
    def dogs(**fields) -> tuple[str, ...]:
        return tuple(list(read_examples(folder, request(template="hypernetwork", **fields), folder.parent))[1][1])

    shuffled = dogs(shuffle_tags=True)
    assert shuffled == dogs(shuffle_tags=True)
    assert len(shuffled) > 2
    assert all(sorted(text.removeprefix("a picture of ").split(", ")) == ["dog", "red", "small"] for text in shuffled)
    assert any(text.count(",") < 2 for text in dogs(tag_drop_out=0.5))


def test_pictures_that_lie_elsewhere_are_not_read(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "lime").save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert len(list(read_examples(folder, request(), folder.parent))) == 2


def test_empty_folders_and_damaged_pictures_are_told(folder: Path) -> None:
    (folder / "z.png").write_bytes(b"no picture")
    with pytest.raises(BadRequest, match=r"z\.png"):
        list(read_examples(folder, request(), folder.parent))
    with pytest.raises(BadRequest, match="holds 0 pictures"):
        list(read_examples(folder.parent, request(), folder.parent.parent))
