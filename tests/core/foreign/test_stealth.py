"""Texts in the lowest bits of a picture's transparency."""

import gzip

import pytest
from PIL import Image

from webui.core.foreign.stealth import hidden_texts


def hiding(text: str, packed: bool = True, size: tuple[int, int] = (48, 96), length: int | None = None) -> Image.Image:
    """A picture with `text` hidden in it as the format's rules say: column by column, one bit in each pixel's alpha."""
    content = gzip.compress(text.encode()) if packed else text.encode()
    mark = b"stealth_pngcomp" if packed else b"stealth_pnginfo"
    content = mark + (8 * len(content) if length is None else length).to_bytes(4, "big") + content
    bits = [byte >> shift & 1 for byte in content for shift in range(7, -1, -1)]
    image = Image.new("RGBA", size, (10, 20, 30, 255))
    pixels = image.load()
    assert pixels is not None
    for i, bit in enumerate(bits):
        x, y = divmod(i, size[1])
        pixels[x, y] = (10, 20, 30, 254 | bit)
    return image


@pytest.mark.parametrize("packed", [True, False])
def test_a_json_object_gives_its_texts(packed: bool) -> None:
    told = '{"Software": "NovelAI", "Comment": {"steps": 28}, "Description": "ein Häuschen 🏠"}'
    assert hidden_texts(hiding(told, packed)) == {"Software": "NovelAI", "Comment": '{"steps": 28}', "Description": "ein Häuschen 🏠"}


def test_any_other_text_is_an_infotext() -> None:
    assert hidden_texts(hiding("a cat\nSteps: 20, Seed: 1")) == {"parameters": "a cat\nSteps: 20, Seed: 1"}


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (64, 64), (1, 2, 3, 255)),
        Image.new("RGBA", (1, 1)),
        Image.new("RGB", (64, 64)),
        hiding("x" * 50, length=2**31),
        hiding("x" * 50, length=0),
        hiding("x" * 50, length=80),  # a gzip stream that is cut off
    ],
)
def test_pictures_without_or_with_damaged_texts_give_none(image: Image.Image) -> None:
    assert not any(hidden_texts(image).values())


def test_a_small_picture_cannot_unpack_to_more_than_a_text_may_have() -> None:
    (text,) = hidden_texts(hiding("x" * 10_000_000, size=(512, 512))).values()
    assert len(text) == 4_000_000
