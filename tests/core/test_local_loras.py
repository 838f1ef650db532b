"""LoRAs of an infotext that have another name here: found by the told hash, never in the place of one that has the name."""

import pytest

from webui.core.errors import MissingModel
from webui.core.infotext import read
from webui.core.local_loras import with_local_loras

HASH = "0123456789ab"
HERE = {"sub/ink.safetensors": HASH, "one.pt": "1" * 12, "two.pt": "1" * 12, 'od"d.pt': "2" * 12}
SETTINGS = "Steps: 4, Sampler: Euler, Seed: 1, Size: 64x64"


def find(name: str) -> str:
    if name != "ink":
        raise MissingModel(name)
    return name


def with_hash(kind: str, digits: str) -> list[str]:
    return [name for name, known in HERE.items() if known.startswith(digits)] if kind == "lora" else []


def renamed(text: str) -> tuple[str, list[str]]:
    return with_local_loras(text, find, with_hash)


def test_tags_and_hashes_take_the_name_that_the_file_has_here() -> None:
    text = f'a <lora:g,one:0.5> b <lyco:g,one>\n{SETTINGS}, Hires prompt: "c, <lora:g,one:1>", Lora hashes: "gone: {HASH}"'
    made, told = renamed(text)
    assert read(made).prompt == "a <lora:sub/ink:0.5> b <lyco:sub/ink>"
    assert read(made).params["Hires prompt"] == "c, <lora:sub/ink:1>"
    assert read(made).params["Lora hashes"] == f"sub/ink: {HASH}"
    assert told == ["LoRA g,one is here as sub/ink, the same file by its hash; that was taken"]


@pytest.mark.parametrize(
    "told",
    [
        f"ink: {HASH}",
        "ink: " + "1" * 12,
        "gone: " + "1" * 12,
        "gone: e3b0c44298fc",
        "gone: " + "2" * 12,
        "gone: " + "3" * 12,
        "other: " + HASH,
    ],
    ids=["name is here", "other file of the name", "hash of several", "hash of nothing", "no name for a tag", "unknown", "not mentioned"],
)
def test_the_text_stays_where_the_hash_decides_nothing(told: str) -> None:
    text = f'a <lora:{told.partition(":")[0].replace("other", "gone")}:1>\n{SETTINGS}, Lora hashes: "{told}"'
    assert renamed(text) == (text, [])
