"""webui/build.py: the worker's handlers, as its process makes them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
