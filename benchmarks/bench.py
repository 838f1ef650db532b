"""Speed and memory beside a plain diffusers pipeline: `make bench` writes RESULTS.md.

Every figure is a ratio or a difference taken in one run, in alternating order, as a median: absolute seconds are noise on shared machines.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.server import serve_and_measure
from webui.core.request import GenerationRequest

ROOT = Path(__file__).parent.parent
MINIATURE = ROOT / "models/Stable-diffusion/easel-miniature.safetensors"
RESULTS = Path(__file__).parent / "RESULTS.md"
PROMPT = "a red circle on a blue background"


class Silent:
    """A Control that nobody touches; `previews` says whether somebody looks."""

    interrupted = False

    def __init__(self, previews: bool = False) -> None:
        self.previews = previews

    def take_skip(self) -> bool:
        return False


def no_inputs(sha256: str) -> Image.Image:
    """The benchmark's requests name no pictures."""
    raise KeyError(sha256)


def ours(checkpoint: Path, side: int, steps: int, previews: bool = False) -> Callable[[], None]:
    """A function that makes one picture with Easel's engine, Euler, model loaded beforehand."""
    from webui.engine.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint, torch.float32, torch.device("cpu"))
    return lambda: run(model, request_of(checkpoint, side, steps, "Euler"), previews)


def request_of(checkpoint: Path, side: int, steps: int, sampler: str) -> GenerationRequest:
    """For one square picture."""
    return GenerationRequest(
        prompt=PROMPT,
        checkpoint=checkpoint.name,
        vae="None",
        width=side,
        height=side,
        steps=steps,
        sampler=sampler,
        seed=1,
        variation_seed=1,
    )


def run(model: Any, request: GenerationRequest, previews: bool = False) -> None:
    """Have the engine make the request's picture, which nobody sees."""
    from webui.engine.generate import generate

    for _ in generate(request, Silent(previews), load=lambda _: model, open_input=no_inputs):
        pass


def added_by_samplers(checkpoint: Path, side: int, steps: int) -> list[tuple[float, str]]:
    """(what is done between the UNet's calls ÷ what these take, sampler) of every sampler but one, the dearest first."""
    from webui.core.choices import SAMPLERS
    from webui.engine.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint, torch.float32, torch.device("cpu"))
    calls: list[tuple[float, float]] = []  # when each began and ended
    begun: list[float] = []
    model.unet.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter()))
    model.unet.register_forward_hook(lambda *_: calls.append((begun.pop(), time.perf_counter())))
    added = []
    for sampler in SAMPLERS:
        if sampler == "DPM adaptive":  # with random weights it would step for hours
            continue
        calls.clear()
        run(model, request_of(checkpoint, side, steps, sampler))
        network = sum(end - begin for begin, end in calls)
        added.append(((calls[-1][1] - calls[0][0]) / network - 1, sampler))
    return sorted(added, reverse=True)


def diffusers(checkpoint: Path, side: int, steps: int) -> Callable[[], None]:
    """A function that makes the same picture with diffusers' own StableDiffusionPipeline, weights loaded its own way."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    from webui.engine.family import load_family
    from webui.engine.tokenizers import load_tokenizer

    family = load_family("miniature" if checkpoint == MINIATURE else "sd1")
    pipeline = StableDiffusionPipeline.from_single_file(
        str(checkpoint), config=str(family.folder), torch_dtype=torch.float32, local_files_only=True, tokenizer=load_tokenizer()
    )
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def picture() -> None:
        generator = torch.Generator("cpu").manual_seed(1)
        pipeline(PROMPT, width=side, height=side, num_inference_steps=steps, guidance_scale=7.0, generator=generator)

    return picture


def encodings(checkpoint: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions: one encodes a prompt, the other has encoded it before."""
    from webui.engine.checkpoint import load_checkpoint
    from webui.engine.conditioning import Encoder

    model = load_checkpoint(checkpoint, torch.float32, torch.device("cpu"))
    known = Encoder(model)

    def new() -> None:
        Encoder(model).prompt(PROMPT, 20)

    def again() -> None:
        known.prompt(PROMPT, 20)

    return new, again


def alternate(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds of each, run in turns, the order changed every round; one run of each before that does not count."""
    first(), second()
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds):
        pair = [(first, times[0]), (second, times[1])]
        for run, record in pair if round_ % 2 == 0 else pair[::-1]:
            begin = time.perf_counter()
            run()
            record.append(time.perf_counter() - begin)
    return statistics.median(times[0]), statistics.median(times[1])


def peak_memory(kind: str, checkpoint: Path, side: int) -> float:
    """Peak resident MiB of a fresh process that loads the checkpoint and makes one 2-step picture."""
    command = [sys.executable, "-m", "benchmarks.bench", "--peak", kind, "--checkpoint", str(checkpoint), "--side", str(side)]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(json.loads(answer.stdout.splitlines()[-1])["peak"])


def random_sd15(folder: Path) -> Path:
    """An SD 1.5-size single file with random fp16 weights (about 2 GB)."""
    from tests.tiny import full_size_parts
    from webui.engine.checkpoint import save_single_file

    path = folder / "sd15-random.safetensors"
    save_single_file(path, **full_size_parts("sd1"))
    return path


def measure(quick: bool) -> list[tuple[str, str, str]]:
    """Rows (what, figure, goal)."""
    rounds = 3 if quick else 9
    rows = compare("miniature 128², 20 steps", MINIATURE, 128, 20, rounds)
    picture, with_previews = alternate(ours(MINIATURE, 128, 20), ours(MINIATURE, 128, 20, previews=True), rounds)
    rows.append(("preview at every step, miniature", f"{(with_previews / picture - 1) * 100:+.1f} %", "≤ 3 %"))
    new, again = alternate(*encodings(MINIATURE), 10 * rounds)
    rows.append(("a repeated prompt ÷ a new one, text encoding, miniature", f"{again / new:.2f} ({again * 1000:.1f} ms)", "≤ 0.1"))
    if not quick:
        with tempfile.TemporaryDirectory() as folder:
            large = random_sd15(Path(folder))
            rows += compare("SD 1.5 size, random weights, 256², 4 steps", large, 256, 4, 2)
            added = added_by_samplers(large, 128, 4)
            figure = f"+{added[0][0] * 100:.2f} % ({added[0][1]}; median +{added[len(added) // 2][0] * 100:.2f} %)"
            rows.append(("the dearest sampler beside the UNet's calls, SD 1.5 size, 128², 4 steps", figure, "≤ 2 %"))
    served = serve_and_measure(ROOT, rounds=10)
    rows.append(("page answers after start", f"{served.page:.1f} s", "≤ 8 s"))
    rows.append(("first picture after a cold start (20 steps)", f"{served.first_picture:.1f} s", "≤ 25 s"))
    rows.append(("queue + API + PNG beyond the engine, per picture", f"{(served.picture - picture) * 1000:.0f} ms", "≤ 40 ms"))
    return rows


def compare(title: str, checkpoint: Path, side: int, steps: int, rounds: int) -> list[tuple[str, str, str]]:
    """Seconds and peak memory as ratios Easel / diffusers."""
    mine, theirs = alternate(ours(checkpoint, side, steps), diffusers(checkpoint, side, steps), rounds)
    memory = peak_memory("ours", checkpoint, side) / peak_memory("diffusers", checkpoint, side)
    return [
        (f"seconds per picture, {title}", f"{mine / theirs:.2f} ({mine:.2f} s / {theirs:.2f} s)", "≤ 1.0"),
        (f"peak memory, {title}", f"{memory:.2f}", "≤ 1.0"),
    ]


def write(rows: list[tuple[str, str, str]]) -> None:
    """Put this run on top of the table file; older runs stay below it."""
    now = datetime.date.today().isoformat()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores ({platform.machine()})"
    lines = [f"## {now}, {device}, torch {torch.__version__}", "", "| what | figure | goal |", "|---|---|---|"]
    lines += [f"| {what} | {figure} | {goal} |" for what, figure, goal in rows]
    old = RESULTS.read_text().split("\n## ", 1) if RESULTS.exists() else [""]
    head = "# Benchmarks\n\nWritten by `make bench`: Easel ÷ a plain diffusers pipeline, same checkpoint, sampler, steps, size and seed.\n"
    RESULTS.write_text("\n".join([head, *lines, ""]) + ("\n## " + old[1] if len(old) > 1 else ""))
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no SD 1.5-size model, nothing written")
    parser.add_argument("--peak", choices=("ours", "diffusers"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, default=MINIATURE, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=128, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.peak:
        kinds: dict[str, Any] = {"ours": ours, "diffusers": diffusers}
        kinds[flags.peak](flags.checkpoint, flags.side, 2)()
        print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    rows = measure(flags.quick)
    if flags.quick:
        print(*rows, sep="\n")
    else:
        write(rows)


if __name__ == "__main__":
    main()
