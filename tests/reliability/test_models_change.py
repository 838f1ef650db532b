"""Row 7 of docs/reliability.md: whatever becomes of a model's file while it is listed, the answer is a 4xx and the present model stays."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny import CPU, tiny_parts
from webui.core.errors import BadRequest
from webui.engine.checkpoint import save_single_file
from webui.engine.model_cache import ModelCache

PLENTY = 10**9


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


MISHAPS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "overwritten with noise": lambda path: path.write_bytes(os.urandom(10_000)),
    "a web page now": lambda path: path.write_text("<!DOCTYPE html><p>not found"),
    "a folder now": to_folder,
    "a link to nowhere now": lambda path: to_link(path, "nowhere"),
    "a link to itself now": lambda path: to_link(path, path.name),
    "an endless device now": lambda path: to_link(path, "/dev/zero"),
    "a pipe now": to_pipe,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    parts = tiny_parts("miniature", vocabulary=9)
    for name in ("present", "checkpoint"):
        save_single_file(folder / f"{name}.safetensors", **parts)
    save_file(parts["vae"].state_dict(), folder / "vae.safetensors")
    return folder


@pytest.mark.parametrize("part", ["checkpoint", "vae"])
@pytest.mark.parametrize("mishap", MISHAPS)
def test_the_present_model_stays_usable(models: Path, tmp_path: Path, part: str, mishap: str) -> None:
    """The file was there when it was listed, and is what it is when it is loaded."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    cache = ModelCache(PLENTY)
    present = cache.load(folder / "present.safetensors", None, torch.float32, CPU)
    victim = folder / f"{part}.safetensors"
    MISHAPS[mishap](victim)
    checkpoint, vae = (folder / "present.safetensors", victim) if part == "vae" else (victim, None)
    with pytest.raises(BadRequest) as told:
        cache.load(checkpoint, vae, torch.float32, CPU)
    assert told.value.status in (404, 422)
    assert victim.name in str(told.value)
    assert cache.load(folder / "present.safetensors", None, torch.float32, CPU) is present


def test_there_are_twenty() -> None:
    assert 2 * len(MISHAPS) == 20
