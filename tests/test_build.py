"""webui/build.py: the worker's handlers, as its process makes them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from webui.build import _room
from webui.core.settings import parse_flags
from webui.engine.device import Device
from webui.service.database import Database, DatabaseReader
from webui.service.preferences import PreferenceReader, PreferenceStore

GIB = 2**30
ROOT = Path(__file__).resolve().parents[1]
MINIATURE = ROOT / "models" / "Stable-diffusion" / "easel-miniature.safetensors"

SWITCHING = """
import os, sys, torch
from dataclasses import replace
from pathlib import Path
import psutil
from webui.build import make_handlers
from webui.core.request import GenerationRequest
from webui.core.settings import parse_flags

class Alone:
    interrupted, previews = False, False

    def take_skip(self):
        return False

torch.set_num_threads(1)
folder = Path(sys.argv[1])
settings = parse_flags(["--data-dir", str(folder), "--use-cpu", "--no-half"], {})
make = make_handlers(replace(settings, builtin_checkpoint=folder / "models" / "Stable-diffusion" / "a.safetensors"))[GenerationRequest]
sizes = []
for turn in range(20):
    name = "ab"[turn % 2] + ".safetensors"
    os.utime(folder / "models" / "Stable-diffusion" / name)
    request = GenerationRequest(prompt="a", checkpoint=name, vae="None", width=64, height=64, steps=1, seed=1, variation_seed=1)
    assert type(list(make(request, Alone()))[-1]).__name__ == "Finished"
    sizes.append(psutil.Process().memory_info().rss)
print(*sizes)
"""


@pytest.mark.slow
def test_the_workers_memory_is_flat_while_jobs_for_two_checkpoints_take_turns(tmp_path: Path) -> None:
    """Ten times there and back, a picture each time, from files that changed: a model of 80 MB that stays behind would show at once."""
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name in "ab":
        shutil.copy(MINIATURE, folder / f"{name}.safetensors")
    command = [sys.executable, "-c", SWITCHING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    sizes = [int(size) for size in done.stdout.split()]
    assert max(sizes[6:]) - max(sizes[:6]) < 40_000_000


@pytest.mark.parametrize(
    ("kind", "flags", "automatic", "preferred"),
    [
        ("cpu", [], (32 * GIB, 0), (6 * GIB, 0)),
        ("cpu", ["--workers", "2"], (16 * GIB, 0), (6 * GIB, 0)),
        ("cuda", ["--device-id", "0"], (12 * GIB, 16 * GIB), (12 * GIB, 6 * GIB)),
    ],
)
def test_models_stay_in_as_much_memory_as_the_server_prefers_from_the_next_job_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, flags: list[str], automatic: tuple[int, int], preferred: tuple[int, int]
) -> None:
    """64 GiB of main memory, 24 on the card."""
    memory = {"ram": {"total": 64 * GIB}, "cuda": {"system": {"total": 24 * GIB}} if kind == "cuda" else {"error": "none"}}
    monkeypatch.setattr(Device, "memory", lambda device: memory)
    settings = parse_flags(["--data-dir", str(tmp_path), *flags], {}).each_worker()[0]
    device = Device(torch.device(kind), torch.float32, torch.float32)
    room = _room(settings, device, PreferenceReader(DatabaseReader(settings.database)))
    assert room() == automatic  # without a database, as on another machine
    database = Database(settings.database)
    assert room() == automatic
    PreferenceStore(database).set({"model_cache_gb": 6})
    assert room() == preferred
    database.close()
