"""/sd_extra_networks: pictures and metadata by a model's name or the path that lists told, and nothing else of the disk."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import png
from tests.api.test_models import file
from webui.api.extra_networks import extra_networks_router
from webui.api.internal import internal_router
from webui.core.settings import Settings
from webui.service.service import Service


@pytest.fixture
def cards(service: Service, settings: Settings) -> Iterator[tuple[TestClient, Path]]:
    folder = settings.lora_dirs[0]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "seen #1.safetensors", folder / "seen #1.preview.png", folder / "plain one.safetensors"]
    paths[0].write_bytes(file("x_attn2_to_k.lora_down.weight", 1, 768, metadata={"ss_output_name": "née"}))
    paths[1].write_bytes(base64.b64decode(png((32, 48))))
    paths[2].write_bytes(file("x_attn2_to_k.lora_down.weight", 1, 768))
    service.refresh_models()
    app = FastAPI()
    app.include_router(extra_networks_router(service))
    app.include_router(internal_router(service))
    with TestClient(app) as client:
        yield client, folder
    for path in paths:
        path.unlink()
    service.refresh_models()


def test_a_picture_is_found_by_its_path_by_the_models_path_and_as_a_cover(cards: tuple[TestClient, Path]) -> None:
    http, folder = cards
    for name in ("seen #1.preview.png", "seen #1.safetensors", "seen #1"):
        reply = http.get("/sd_extra_networks/thumb", params={"filename": str(folder / name)})
        assert (reply.status_code, reply.headers["content-type"], reply.content[:4]) == (200, "image/webp", b"RIFF")
    cover = {"page": "lora", "item": "seen #1"}
    assert http.get("/sd_extra_networks/cover-images", params=cover).content[:4] == b"RIFF"
    assert http.get("/sd_extra_networks/cover-images", params={**cover, "index": 1}).status_code == 404


def test_metadata_are_a_text_that_holds_json(cards: tuple[TestClient, Path]) -> None:
    http, _ = cards
    told = http.get("/sd_extra_networks/metadata", params={"page": "lora", "item": "seen #1"}).json()
    assert json.loads(told["metadata"])["ss_output_name"] == "née"


@pytest.mark.parametrize("filename", ["/etc/passwd", "", "../../etc/passwd", "plain one.safetensors", "{}/plain one.safetensors", "\0"])
def test_other_files_are_not_found(cards: tuple[TestClient, Path], filename: str) -> None:
    http, folder = cards
    reply = http.get("/sd_extra_networks/thumb", params={"filename": filename.format(folder)})
    assert reply.status_code == 404
    assert reply.json()["detail"]


@pytest.mark.parametrize(("page", "item"), [("lora", "none"), ("none", "seen #1"), ("checkpoints", "seen #1"), ("", "")])
def test_unknown_pages_and_items_are_not_found(cards: tuple[TestClient, Path], page: str, item: str) -> None:
    assert cards[0].get("/sd_extra_networks/metadata", params={"page": page, "item": item}).status_code == 404
