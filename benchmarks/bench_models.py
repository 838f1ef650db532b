"""Loading, switching and LoRAs beside diffusers' own: `make bench-models` adds to RESULTS.md.

One SD 1.5-size fp16 file with random weights, one LoRA of rank 16 over all attention layers and both kinds of text layers. Both sides load
to fp32, as CPUs compute. Every figure is a ratio taken in one run, in alternating order, as a median, but for those that say seconds.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench import MINIATURE, ROOT, alternate, random_sd15, write
from webui.build import HUGE_PAGES

CPU = torch.device("cpu")
RANK = 16
STEPS = 20  # of a picture after another strength was set


def random_lora(folder: Path) -> Path:
    """kohya's layout, fp16: every linear layer of the attention blocks and of the text encoder."""
    from safetensors.torch import save_file

    from tests.tiny import full_size_parts

    path = folder / "random-lora.safetensors"
    if path.exists():
        return path
    parts = full_size_parts("sd1")
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module, within in (("lora_unet", parts["unet"], ".attn"), ("lora_te_text_model", parts["text_encoder"], "self_attn")):
        for name, layer in module.named_modules():
            if isinstance(layer, torch.nn.Linear) and within in f".{name}":
                key = f"{prefix}_{name.replace('.', '_')}"
                tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, layer.in_features, generator=generator).half() * 0.01
                tensors[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, RANK, generator=generator).half() * 0.01
                tensors[f"{key}.alpha"] = torch.tensor(float(RANK)).half()
    save_file(tensors, path, {"ss_base_model_version": "sd_v1"})
    return path


def load_ours(checkpoint: Path) -> Any:
    from webui.engine.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint, torch.float32, CPU)


def load_theirs(checkpoint: Path) -> Any:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    from webui.engine.family import load_family
    from webui.engine.tokenizers import CLIP_FOLDER

    config = str(load_family("sd1").folder)
    tokenizer = CLIPTokenizer.from_pretrained(str(CLIP_FOLDER), local_files_only=True)  # which it does itself where `config` has one
    return StableDiffusionPipeline.from_single_file(
        str(checkpoint), config=config, torch_dtype=torch.float32, local_files_only=True, tokenizer=tokenizer
    )


def in_new_process(kind: str, checkpoint: Path) -> dict[str, float]:
    """What `first_load` tells, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_models", "--kind", kind, "--checkpoint", str(checkpoint)]
    environment = os.environ | ({HUGE_PAGES: "1"} if kind == "ours" else {})
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment)
    told: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return told


def resident_peak() -> int:
    """Bytes that this process had in memory at most, since it began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def first_load(kind: str, checkpoint: Path) -> dict[str, float]:
    """What --kind runs: all imports, and a small model, before the clock starts; then the file, its bytes in the page cache.

    A switch is from one file to another of the same content; ours by the cache of models, as in a worker whose memory holds one such model.
    """
    from webui.engine.model_cache import ModelCache

    cache = ModelCache(max_bytes=1)

    def load(path: Path) -> Any:
        return cache.load(path, None, torch.float32, CPU) if kind == "ours" else load_theirs(path)

    if kind == "ours":
        load(MINIATURE)
        cache.forget()
    else:
        import diffusers.loaders.single_file
        import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion  # noqa: F401
    read_through(checkpoint)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    before = resident_peak()
    begin = time.perf_counter()
    model = load(checkpoint)
    first = time.perf_counter() - begin
    growth = resident_peak() - before
    weights = sum(p.numel() * p.itemsize for part in (model.unet, model.vae, model.text_encoder) for p in part.parameters())
    switches = []
    twin = checkpoint.with_name(f"twin-{os.getpid()}.safetensors")
    os.link(checkpoint, twin)
    for path in (twin, checkpoint, twin):
        model = None  # nobody works with it any more
        gc.collect()
        read_through(path)
        begin = time.perf_counter()
        model = load(path)
        switches.append(time.perf_counter() - begin)
    del model
    twin.unlink()
    return {"seconds": first, "growth": growth, "weights": weights, "switch": sorted(switches)[1]}


def read_through(path: Path) -> None:
    """Bring the file into the page cache; and let the machine find memory, which virtual ones get page by page from their host."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    torch.ones(5 * path.stat().st_size // 2, dtype=torch.uint8)


def loading(checkpoint: Path, rounds: int) -> list[tuple[str, str, str]]:
    """First load, switch and peak memory, each side in processes of its own, with the environment that its users have."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "diffusers": []}
    for round_ in range(rounds):
        for kind in ("ours", "diffusers") if round_ % 2 == 0 else ("diffusers", "ours"):
            runs[kind].append(in_new_process(kind, checkpoint))
    mine, theirs = (sorted(run["seconds"] for run in runs[kind])[rounds // 2] for kind in ("ours", "diffusers"))
    growth = max(run["growth"] for run in runs["ours"])
    limit = runs["ours"][0]["weights"] * 1.1 + 2**30
    rows = [
        ("first load, SD 1.5 size, fp16 file to fp32", f"{mine / theirs:.2f} ({mine:.2f} s / {theirs:.2f} s)", "≤ 0.8"),
        ("peak memory while loading", f"{growth / 2**30:.2f} GB of {limit / 2**30:.2f} GB", "≤ weights × 1.1 + 1 GB"),
    ]
    mine, theirs = (sorted(run["switch"] for run in runs[kind])[rounds // 2] for kind in ("ours", "diffusers"))
    rows.append(("switch, file in the page cache", f"{mine / theirs:.2f} ({mine:.2f} s / {theirs:.2f} s)", "≤ 0.6"))
    return rows


def held_in_ram(checkpoint: Path) -> list[tuple[str, str, str]]:
    """A checkpoint that the model cache holds, asked for again."""
    from webui.engine.model_cache import ModelCache

    cache = ModelCache(max_bytes=16 * 2**30)
    for path in (checkpoint, MINIATURE):
        cache.load(path, None, torch.float32, CPU)
    begin = time.perf_counter()
    cache.load(checkpoint, None, torch.float32, CPU)
    return [("switch to a checkpoint held in RAM", f"{time.perf_counter() - begin:.4f} s", "≤ 0.3 s + copy time")]


def loras(checkpoint: Path, lora: Path, rounds: int) -> list[tuple[str, str, str]]:
    """A LoRA on (with reading the file), another strength, off; in a process with a worker's environment, for both sides."""
    median = in_worker_process("loras", checkpoint, lora, rounds)
    rows = [(f"LoRA {what}", *_ratio(median[f"ours {what}"], median[f"diffusers {what}"], 1.5)) for what in ("on", "strength", "off")]
    sums = [sum(median[f"{side} {what}"] for what in ("on", "strength", "off")) for side in ("ours", "diffusers")]
    rows.append(("LoRA on + strength changed + off", *_ratio(sums[0], sums[1], 1.5)))
    return rows


def in_worker_process(kind: str, checkpoint: Path, lora: Path, rounds: int) -> dict[str, float]:
    """What `lora_changes` or `steps` tells, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_models", "--kind", kind, "--checkpoint", str(checkpoint), "--lora", str(lora)]
    command += ["--rounds", str(rounds)]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ | {HUGE_PAGES: "1"})
    told: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return told


def lora_changes(checkpoint: Path, lora: Path, rounds: int) -> dict[str, float]:
    """What --kind loras runs: the median seconds of each change on each side, "ours on", "diffusers off" ..."""
    from webui.engine.patches.lora import LoraUse, applied_loras, read_lora

    model, pipeline = load_ours(checkpoint), load_theirs(checkpoint)
    times: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = action()
        times.setdefault(name, []).append(time.perf_counter() - begin)
        return result

    def mine() -> None:
        def on() -> tuple[Any, Any]:
            file = read_lora(lora)
            return file, entered([LoraUse(file)])

        def strength() -> Any:
            job.__exit__(None, None, None)
            return entered([LoraUse(file, 0.5, 0.5)])  # the store keeps the file between jobs

        def off() -> None:
            job.__exit__(None, None, None)
            entered([]).__exit__(None, None, None)  # only a job without LoRAs lets go of the memory

        file, job = timed("ours on", on)
        job = timed("ours strength", strength)
        timed("ours off", off)

    def entered(uses: list[LoraUse]) -> Any:
        block = applied_loras(model, uses)
        block.__enter__()
        return block

    def theirs() -> None:
        timed("diffusers on", lambda: pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="a"))
        timed("diffusers strength", lambda: pipeline.set_adapters(["a"], [0.5]))
        timed("diffusers off", pipeline.unload_lora_weights)

    alternate(mine, theirs, rounds)
    return {name: sorted(values)[len(values) // 2] for name, values in times.items()}


def _ratio(mine: float, theirs: float, goal: float) -> tuple[str, str]:
    return f"{mine / theirs:.2f} ({mine * 1000:.0f} ms / {theirs * 1000:.0f} ms)", f"≤ {goal}"


def pictures(checkpoint: Path, lora: Path, rounds: int) -> list[tuple[str, str, str]]:
    """One UNet step with Easel's LoRA in place beside one without, the same for diffusers, and what is waited for after another strength
    was set; in a process with a worker's environment.
    """
    told = in_worker_process("steps", checkpoint, lora, rounds)
    return [
        ("a UNet step with a LoRA ÷ without", f"{told['ours']:.3f} (diffusers: {told['diffusers']:.2f})", "≤ 1.02"),
        (f"LoRA strength changed + {STEPS} UNet steps at 256²", *_ratio(told["ours changed"], told["diffusers changed"], 1.0)),
    ]


def steps(checkpoint: Path, lora: Path, rounds: int) -> dict[str, float]:
    """What --kind steps runs: steps at 128² with and without, taken in turns; each side's fastest, for others' work only ever adds.

    "changed": seconds of another strength and the steps of a picture with it.
    """
    from webui.engine.patches.lora import LoraUse, applied_loras, read_lora

    model, pipeline = load_ours(checkpoint), load_theirs(checkpoint)
    x, t, states = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, 768)

    @torch.inference_mode()
    def step(unet: Any) -> float:
        """Seconds of the fastest of five, the first of which finds its memory."""
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            unet(x, t, states)
            times.append(time.perf_counter() - begin)
        return min(times)

    def with_mine() -> float:
        with applied_loras(model, [LoraUse(file)]):
            return step(model.unet)

    file = read_lora(lora)
    step(model.unet)
    pairs = [(with_mine(), step(model.unet)) if i % 2 else (step(model.unet), with_mine())[::-1] for i in range(2 * rounds)]
    plain = min(step(pipeline.unet) for _ in range(rounds))
    pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="a")
    theirs = min(step(pipeline.unet) for _ in range(rounds))
    told = {"ours": min(one for one, _ in pairs) / min(other for _, other in pairs), "diffusers": theirs / plain}

    @torch.inference_mode()
    def picture(unet: Any) -> None:
        for _ in range(STEPS):
            unet(torch.randn(1, 4, 32, 32), t, states)

    def changed_mine() -> None:
        with applied_loras(model, [LoraUse(file, 0.5, 0.5)]):
            picture(model.unet)

    def changed_theirs() -> None:
        pipeline.set_adapters(["a"], [0.5])
        picture(pipeline.unet)

    told["ours changed"], told["diffusers changed"] = alternate(changed_mine, changed_theirs, rounds)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    parser.add_argument("--kind", choices=("ours", "diffusers", "loras", "steps"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lora", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.kind:
        if flags.lora:
            print(json.dumps((steps if flags.kind == "steps" else lora_changes)(flags.checkpoint, flags.lora, flags.rounds)))
        else:
            print(json.dumps(first_load(flags.kind, flags.checkpoint)))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, lora = random_sd15(Path(folder)), random_lora(Path(folder))
        rows = loading(checkpoint, flags.rounds) + held_in_ram(checkpoint)
        rows += loras(checkpoint, lora, flags.rounds) + pictures(checkpoint, lora, flags.rounds)
    if flags.dry:
        print(*rows, sep="\n")
    else:
        write(rows)


if __name__ == "__main__":
    main()
