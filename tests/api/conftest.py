"""A real Service with a worker that draws without torch, and the API on top of it."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from webui.api.internal import internal_router
from webui.api.routes import sdapi_router
from webui.core.settings import Settings, parse_flags
from webui.service.service import Service, open_service

FACTORY = "tests.api.handlers:make"
PATIENCE = 120.0  # seconds until a test gives up; never a measure of speed


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two checkpoints, one of them with a VAE of its own, and one more VAE."""
    folder = tmp_path_factory.mktemp("easel")
    for name in ("Stable-diffusion/alpha.ckpt", "Stable-diffusion/people/beta.ckpt", "VAE/gamma.pt", "VAE/beta.vae.pt"):
        path = folder / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 50)
    parsed = parse_flags(["--data-dir", str(folder), "--gradio-auth", "ann:very-secret", "--ckpt", "alpha"], {})
    return replace(parsed, builtin_checkpoint=folder / "none.safetensors")


@pytest.fixture(scope="session")
def service(settings: Settings) -> Iterator[Service]:
    running = open_service(settings, FACTORY)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A service whose worker never starts: what is queued waits."""
    waiting = open_service(replace(settings, data_dir=tmp_path, database=tmp_path / "easel.sqlite3"), FACTORY)
    yield waiting
    waiting.stop()


@pytest.fixture
def page(own: Service) -> Iterator[TestClient]:
    """What the page asks of that service."""
    made = FastAPI()
    made.include_router(internal_router(own))
    with TestClient(made) as client:
        yield client


@pytest.fixture(scope="session")
def app(service: Service, settings: Settings) -> FastAPI:
    made = FastAPI()
    made.include_router(sdapi_router(service, settings))
    return made


@pytest.fixture(scope="session")
def plain_http(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def http(plain_http: TestClient, service: Service) -> Iterator[TestClient]:
    """The API; preferences and files by which a test talks to the worker are put back afterwards."""
    before = service.preferences()
    yield plain_http
    service.set_preferences(before)
    for name in ("go", "holding"):
        (service.settings.data_dir / name).unlink(missing_ok=True)


@pytest.fixture
def post(http: TestClient) -> Callable[..., dict[str, Any]]:
    """POST to a generation route, small and quick unless told otherwise; the answer with `info` decoded is 200."""

    def send(route: str = "txt2img", **fields: Any) -> dict[str, Any]:
        reply = http.post(f"/sdapi/v1/{route}", json={"steps": 2, "width": 64, "height": 64, **fields})
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    return send


def png(size: tuple[int, int] = (64, 64), mode: str = "RGB", colour: Any = None) -> str:
    """A picture as base64."""
    buffer = io.BytesIO()
    Image.new(mode, size, colour or 0).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def until(fact: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `fact` returns once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := fact():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def holding(service: Service) -> Path:
    """Wait until the worker holds a job."""
    path = service.settings.data_dir / "holding"
    until(path.exists)
    return path
