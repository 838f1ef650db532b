"""Recipes: lossless, in every format, and what differs between two of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from webui.core.catalog import Catalog
from webui.core.hires import HiresFix
from webui.core.image_metadata import RECIPE, encode, read_infotext
from webui.core.recipe import Recipe, differences, pixel_hash, read_recipe, used_files
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint, TiledUpscale
from webui.core.settings import parse_flags

INIT = InitImage(image="a" * 64, inpaint=Inpaint(mask="b" * 64))
RECIPES = Recipe(
    GenerationRequest(prompt="Häuschen 🏠", width=64, height=64, seed=5, init=INIT),
    {"checkpoint a.safetensors": "c" * 64},
    {"torch": "2.13.0", "device": "CPU"},
    "d" * 64,
)


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_a_recipe_survives_every_format(format: str) -> None:
    found = read_infotext(encode(Image.new("RGB", (8, 8)), "a cat\nSteps: 1, Seed: 5, Size: 64x64", format, recipe=RECIPES.to_json()))
    assert read_recipe(found.items[RECIPE]) == RECIPES
    assert (found.text, found.source) == ("a cat\nSteps: 1, Seed: 5, Size: 64x64", "Easel")


def test_a_jpeg_without_room_for_both_keeps_the_infotext() -> None:
    recipe = Recipe(GenerationRequest(prompt="x" * 40_000))
    found = read_infotext(encode(Image.new("RGB", (8, 8)), "y" * 20_000, "jpg", recipe=recipe.to_json()))
    assert (found.text, found.items) == ("y" * 20_000, {})


def test_a_recipe_of_the_first_version_is_a_request_alone() -> None:
    assert read_recipe(json.dumps(RECIPES.request.to_json())) == Recipe(RECIPES.request)


@pytest.mark.parametrize("text", ["", "[]", "1", '{"request": 5}', '{"request": {"init": 5}}', "[" * 50_000])
def test_what_is_no_recipe_is_none(text: str) -> None:
    assert read_recipe(text) is None


def test_the_pixel_hash_knows_size_and_every_value() -> None:
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    changed = image.copy()
    changed.putpixel((3, 1), (1, 2, 4))
    hashes = {pixel_hash(each) for each in (image, changed, Image.new("RGB", (2, 4), (1, 2, 3)))}
    assert len(hashes) == 3
    assert pixel_hash(image.convert("RGBA")) == pixel_hash(image)


def test_differences_name_files_and_environment() -> None:
    now = Recipe(RECIPES.request, {"checkpoint a.safetensors": "e" * 64}, {"torch": "2.14.0", "device": "CPU"})
    first, second = differences(RECIPES, now)
    assert "checkpoint a.safetensors is another file" in first
    assert second == "torch was 2.13.0, here it is 2.14.0"
    assert differences(RECIPES, RECIPES) == []


def test_used_files_are_those_of_the_request_and_the_embeddings_that_the_infotext_names(tmp_path: Path) -> None:
    for place in (
        "models/Stable-diffusion/a.safetensors",
        "models/Stable-diffusion/b.safetensors",
        "loras/wash.safetensors",
        "loras/ink.safetensors",
        "embeddings/soft.pt",
        "embeddings/other.pt",
        "models/VAE/v.pt",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    catalog = Catalog(parse_flags(["--data-dir", str(tmp_path)], {}))
    request = GenerationRequest(checkpoint="a.safetensors", vae="v.pt", prompt="x <lora:ink:1> soft")
    files = used_files(request, "x\nSteps: 1, Seed: 1, Size: 64x64, TI hashes: soft: 0123", catalog)
    assert set(files) == {"checkpoint a.safetensors", "vae v.pt", "lora ink", "embedding soft"}
    assert all(len(digest) == 64 for digest in files.values())
    refined = replace(request, refiner=Refiner(checkpoint="b.safetensors"))
    assert set(used_files(refined, "", catalog)) == {*files, "checkpoint b.safetensors"} - {"embedding soft"}
    again = replace(request, hires=HiresFix(checkpoint="b.safetensors", prompt="x <lora:wash:1>"))
    assert set(used_files(again, "", catalog)) == {*files, "checkpoint b.safetensors", "lora wash"} - {"embedding soft"}


def test_the_models_of_upscalers_are_among_the_used_files(tmp_path: Path) -> None:
    for place in ("models/Stable-diffusion/a.safetensors", "models/ESRGAN/4x.pth", "models/upscalers/fine.safetensors"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    catalog = Catalog(parse_flags(["--data-dir", str(tmp_path)], {}))
    request = GenerationRequest(checkpoint="a.safetensors", vae="None", hires=HiresFix(upscaler="4x"))
    assert set(used_files(request, "", catalog)) == {"checkpoint a.safetensors", "upscaler 4x"}
    tiles = InitImage(image="x", upscale=TiledUpscale(upscaler="fine"))
    assert set(used_files(replace(request, hires=None, init=tiles), "", catalog)) == {"checkpoint a.safetensors", "upscaler fine"}
    assert set(used_files(replace(request, hires=HiresFix(upscaler="Lanczos")), "", catalog)) == {"checkpoint a.safetensors"}
