"""A data folder with a tiny checkpoint, and services that are stopped at the end."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service.shelf import Shelf, opened
from webui.core.catalog import Catalog
from webui.core.settings import Settings, parse_flags
from webui.service.database import Database, open_database
from webui.service.service import Service, open_service
from webui.service.workers import worker_openers

UNET = "model.diffusion_model."
PATIENCE = 150.0  # seconds until a test gives up; never a measure of speed


def write_checkpoint(path: Path, text_width: int = 64) -> Path:
    """A safetensors file whose tensors have the names and shapes of a small checkpoint; text width 768 makes it look like SD 1.x."""
    shapes = {
        UNET + "input_blocks.0.0.weight": (8, 4, 3, 3),
        UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (1, text_width),
    }
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return path


def until(happened: Callable[[], Any]) -> Any:
    """Wait for something to become true and return it; fails after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = happened()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it never happened")


def settings_for(folder: Path) -> Settings:
    """Settings whose data and checkpoints all lie in `folder`."""
    builtin = folder / "builtin" / "small.safetensors"
    if not builtin.exists():
        write_checkpoint(builtin)
    return replace(parse_flags(["--data-dir", str(folder)], {}), builtin_checkpoint=builtin)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database, _ = open_database(tmp_path / "easel.sqlite3")
    yield database
    database.close()


@pytest.fixture
def make_service(settings: Settings) -> Iterator[Callable[..., Service]]:
    """Makes started services; those that a test did not stop are stopped after it."""
    made: list[Service] = []

    def make(factory: str = "make", **options: Any) -> Service:
        factory, workers = f"tests.service.handlers:{factory}", options.pop("workers", None)
        if options:
            database, warnings = open_database(settings.database)
            service = Service(
                settings, Catalog(settings), worker_openers(settings, factory), database=database, warnings=warnings, **options
            )
        else:
            service = open_service(replace(settings, workers=workers), factory)
        made.append(service)
        service.start()
        return service

    yield make
    for service in made:
        service.stop()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A collection of pictures without workers."""
    with opened(tmp_path) as made:
        yield made
