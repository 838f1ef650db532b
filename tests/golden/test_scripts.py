"""A script's pictures through API, service and worker with the miniature: pixel by pixel those that are made alone."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from webui.api.routes import sdapi_router
from webui.core.settings import parse_flags
from webui.service.service import open_service

SIDE = 64
FIELDS = {"prompt": "a red circle on a blue background", "width": SIDE, "height": SIDE, "steps": 2, "seed": 7, "sampler_name": "Euler"}
Ask = Any


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """POST to a generation route of a real server with a real worker; (pictures, info)."""
    settings = parse_flags(["--data-dir", str(tmp_path_factory.mktemp("scripts"))], {})
    service = open_service(settings, "webui.build:make_handlers")
    service.start()
    app = FastAPI()
    app.include_router(sdapi_router(service, settings))
    with TestClient(app) as client:

        def send(route: str = "txt2img", **fields: Any) -> tuple[list[Image.Image], dict[str, Any]]:
            reply = client.post(f"/sdapi/v1/{route}", json=FIELDS | fields)
            assert reply.status_code == 200, reply.text
            answer = reply.json()
            return [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"]], json.loads(answer["info"])

        yield send
    service.stop()


def at(sheet: Image.Image, column: int, row: int, columns: int, rows: int) -> Image.Image:
    """A cell of a sheet; the legend is what is to the left and above."""
    left, top = sheet.width - columns * SIDE, sheet.height - rows * SIDE
    return sheet.crop((left + column * SIDE, top + row * SIDE, left + (column + 1) * SIDE, top + (row + 1) * SIDE))


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_each_cell_of_a_plot_is_the_picture_made_alone(ask: Ask) -> None:
    plot = ["Prompt S/R", "red, green", [], "Sampler", "", ["Euler a", "DPM++ 2M"], "Nothing", "", [], True, True]
    (sheet, *singles), info = ask(script_name="X/Y/Z plot", script_args=plot)
    assert info["index_of_first_image"] == 1
    for row, sampler in enumerate(("Euler a", "DPM++ 2M")):
        for column, colour in enumerate(("red", "green")):
            (alone,), told = ask(prompt=f"a {colour} circle on a blue background", sampler_name=sampler)
            number = row * 2 + column
            assert at(sheet, column, row, 2, 2).tobytes() == alone.tobytes()
            assert singles[number].tobytes() == alone.tobytes()
            assert info["infotexts"][1 + number] == told["infotexts"][0]


def test_loopback_is_img2img_by_hand(ask: Ask) -> None:
    (first,), _ = ask()
    script = {"script_name": "Loopback", "script_args": [2, 0.4, "Linear"], "denoising_strength": 0.6}
    (_, *looped), _ = ask("img2img", init_images=[encoded(first)], **script)
    (once,), _ = ask("img2img", init_images=[encoded(first)], denoising_strength=0.6)
    (twice,), _ = ask("img2img", init_images=[encoded(once)], denoising_strength=0.4, seed=8)
    assert [image.tobytes() for image in looped] == [once.tobytes(), twice.tobytes()]
