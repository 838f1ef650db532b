"""A picture of the miniature, dropped into a fresh Easel, is made again to the last bit; and a changed one is found out."""

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.golden.test_miniature_pictures import MINIATURE, REQUEST
from tests.service.conftest import until
from webui.core.errors import BadRequest, MissingModel
from webui.core.image_metadata import encode, open_image
from webui.core.lora_hash import lora_hash
from webui.core.request import InitImage
from webui.core.settings import parse_flags
from webui.service.replay import Verdict, recipe_of
from webui.service.service import Service, open_service

LORA = Path(__file__).parents[2] / "loras" / "starlit.safetensors"
PATIENCE = 120  # seconds; no measure of speed
Open = Callable[[str], Service]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """name -> an Easel with a data folder of its own and the real engine."""
    made: dict[str, Service] = {}

    def service(name: str) -> Service:
        if name not in made:
            made[name] = open_service(parse_flags(["--data-dir", str(tmp_path_factory.mktemp(name))], {}), "webui.build:make_handlers")
            made[name].start()
        return made[name]

    yield service
    for each in made.values():
        each.stop()


@pytest.fixture(scope="module")
def original(opened: Open) -> Path:
    service = opened("first")
    request = replace(REQUEST, prompt="a (green:1.2) star on a blue background", steps=8, batch_size=2, checkpoint=MINIATURE.name)
    return service.wait(service.submit(request), PATIENCE).pictures[1].path


def replayed(service: Service, data: bytes) -> Verdict:
    kept = service.add_input(data)
    job = service.replays.begin(kept)
    service.wait(job, PATIENCE)
    verdict = service.replays.verdict(kept, job)
    assert verdict is not None
    return verdict


def test_its_png_replays_identically_in_a_fresh_data_folder(opened: Open, original: Path) -> None:
    verdict = replayed(opened("second"), original.read_bytes())
    assert verdict.kind == "identical", verdict.sentences


def test_the_recipe_names_what_the_picture_was_made_with(original: Path) -> None:
    recipe = recipe_of(original.read_bytes())
    assert set(recipe.files) == {f"checkpoint {MINIATURE.name}"}
    assert {"torch", "device", "precision", "attention"} <= set(recipe.environment)


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_a_copy_with_loss_replays_identically_by_its_recorded_pixels(opened: Open, original: Path, format: str) -> None:
    data = original.read_bytes()
    for quality in (10, 80):
        copy = encode(open_image(data), "", format, quality, recipe_of(data).to_json())
        verdict = replayed(opened("second"), copy)
        assert verdict.kind == "identical", verdict.sentences


def with_lora(service: Service, name: str) -> Service:
    """A copy of the shipped LoRA, once the service has found it and worked its hash out."""
    folder = service.settings.lora_dirs[0]
    folder.mkdir(exist_ok=True)
    shutil.copyfile(LORA, folder / f"{name}.safetensors")
    service.refresh_models()
    until(lambda: service.models.with_hash("lora", lora_hash(LORA)))
    return service


def test_a_lora_that_was_renamed_is_found_by_its_hash(opened: Open) -> None:
    first, second = with_lora(opened("old names"), "ink"), with_lora(opened("new names"), "other")
    request = replace(REQUEST, prompt="a red circle <lora:ink:0.5>", steps=2, checkpoint=MINIATURE.name)
    made = first.wait(first.submit(request), PATIENCE).pictures[0].path
    verdict = replayed(second, made.read_bytes())
    assert verdict.kind == "identical", verdict.sentences


def painted(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    image.paste((0, 0, 0), (0, 0, image.width // 2, image.height))
    return image


def with_one_pixel(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    red, green, blue = image.getpixel((3, 3))
    image.putpixel((3, 3), (red ^ 1, green, blue))
    return image


@pytest.mark.parametrize(
    ("format", "change"),
    [("png", with_one_pixel), ("png", painted), ("jpg", painted), ("webp", painted), ("png", lambda image: image.resize((64, 64)))],
)
def test_a_picture_that_was_changed_is_found_out_though_its_recipe_is_true(
    opened: Open, original: Path, format: str, change: Callable[[Image.Image], Image.Image]
) -> None:
    data = original.read_bytes()
    verdict = replayed(opened("second"), encode(change(open_image(data)), "", format, recipe=recipe_of(data).to_json()))
    assert verdict.kind == "different"
    assert "this file was changed after it was saved" in " ".join(verdict.sentences)


def test_a_recipe_that_was_changed_is_found_out_and_told_why(opened: Open, original: Path) -> None:
    recipe = recipe_of(original.read_bytes())
    other = replace(recipe, request=replace(recipe.request, seed=recipe.request.seed + 7), environment={"torch": "1.0"}, pixels="")
    buffer = io.BytesIO(encode(open_image(original.read_bytes()), "", "png", recipe=other.to_json()))
    verdict = replayed(opened("second"), buffer.getvalue())
    assert verdict.kind == "different"
    assert "torch was 1.0" in " ".join(verdict.sentences)


def test_what_cannot_be_replayed_says_what_is_missing(opened: Open, original: Path) -> None:
    service = opened("second")
    recipe = recipe_of(original.read_bytes())
    for change, sentence in (
        ({"prompt": "x <lora:nowhere:1>"}, "nowhere"),
        ({"checkpoint": "gone.safetensors", "checkpoint_hash": ""}, "gone.safetensors"),
        ({"init": InitImage(image="0" * 64)}, "init image is not here"),
    ):
        told = replace(recipe, request=replace(recipe.request, **change), files={})
        kept = service.add_input(encode(Image.new("RGB", (64, 64)), "", "png", recipe=told.to_json()))
        with pytest.raises(MissingModel, match=sentence):
            service.replays.begin(kept)
    with pytest.raises(BadRequest, match="carries no recipe"):
        service.replays.begin(service.add_input(encode(Image.new("RGB", (64, 64)), "a cat", "png")))
