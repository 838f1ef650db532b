"""InvokeAI's recipes: the JSON `invokeai_metadata` (from 3.0), `sd-metadata` (2.x), and the command line `Dream` (1.x, 2.x)."""

import itertools
import re
import shlex
from collections.abc import Container, Mapping
from typing import Any

from webui.core.foreign.samplers import INVOKEAI_SAMPLERS, evenly_spaced
from webui.core.foreign.translation import Recipe, Translation, entries, loads, lora_tag, part, size, stem, written
from webui.core.foreign.weights import compel

TAKEN = {
    *("positive_prompt", "negative_prompt", "steps", "scheduler", "cfg_scale", "seed", "width", "height", "model", "vae", "loras"),
    *("strength", "clip_skip", "rand_device", "cfg_rescale_multiplier", "seamless_x", "seamless_y", "app_version", "generation_mode"),
    *("init_image", "positive_style_prompt", "negative_style_prompt"),
}
TAKEN_OLD = {"prompt", "steps", "sampler", "cfg_scale", "seed", "width", "height", "type", "strength", "seamless", "seamless_axes"}
DREAM = {
    "-s": "Steps",
    "-S": "Seed",
    "-C": "CFG scale",
    "-W": "width",
    "-H": "height",
    "-A": "sampler",
    "-f": "Denoising strength",
    "--steps": "Steps",
    "--seed": "Seed",
    "--cfg_scale": "CFG scale",
    "--width": "width",
    "--height": "height",
    "--sampler": "sampler",
    "--strength": "Denoising strength",
    "--seamless": "Tiling",
}
FLAG = re.compile(r"(--[a-zA-Z_]+|-[a-zA-Z])=?(.*)", re.S)  # with a value right behind it, or in the next word
LORA = re.compile(r"withLora\(([^,()]{1,200})(?:,([ \d.]{1,20}))?\)")
TILING = {(True, True): "True", (True, False): "Horizontal", (False, True): "Vertical"}  # seamless along (x, y) -> as an infotext has it
BLENDS = (".and(", ".blend(", ".swap(")


def translate(items: Mapping[str, str]) -> Translation:
    """The recipe as infotext, from whichever of the three texts is there."""
    told = loads(items.get("invokeai_metadata", ""))
    if told:
        return _from_metadata(told)
    old = loads(items.get("sd-metadata", ""))
    return _from_old_metadata(old) if old else _from_command(items.get("Dream", ""))


def _from_metadata(told: Mapping[str, Any]) -> Translation:
    recipe = Recipe()
    tags = [_tag(each) for each in entries(told.get("loras"))]
    recipe.prompt = " ".join(filter(None, (_prompt("positive_prompt", told.get("positive_prompt"), recipe), *tags)))
    recipe.negative_prompt = _prompt("negative_prompt", told.get("negative_prompt"), recipe)
    recipe.set("Steps", told.get("steps"))
    _sampler(told.get("scheduler"), recipe)
    recipe.set("CFG scale", told.get("cfg_scale"))
    recipe.set("Seed", told.get("seed"))
    recipe.set("Size", size(told.get("width"), told.get("height")))
    _model(told.get("model"), recipe)
    vae = told.get("vae")
    recipe.set("VAE", stem(vae.get("name") or vae.get("model_name")) if isinstance(vae, dict) else None)
    recipe.set("Denoising strength", told.get("strength") if told.get("init_image") or "strength" in told else None)
    skip = told.get("clip_skip")
    recipe.set("Clip skip", skip + 1 if isinstance(skip, int) and skip > 0 else None)
    if "seed" in told:
        recipe.set("RNG", "CPU" if told.get("rand_device", "cpu") == "cpu" else "GPU")
    recipe.set("CFG Rescale phi", told.get("cfg_rescale_multiplier") or None)
    recipe.set("Tiling", TILING.get((bool(told.get("seamless_x")), bool(told.get("seamless_y")))))
    _left_out(told, TAKEN, recipe)
    for key in ("positive", "negative"):
        style = told.get(f"{key}_style_prompt")
        if style and style != told.get(f"{key}_prompt"):
            _left_out({f"{key}_style_prompt": style}, set(), recipe)
    return recipe.translation()


def _left_out(told: Mapping[str, Any], taken: Container[str], recipe: Recipe) -> None:
    """A note on each setting that is on and not taken over."""
    for key, value in told.items():
        if key not in taken and value not in (None, [], {}, "", False, 0):
            recipe.not_understood(key, f"{key[:60]} was left out")


def _from_old_metadata(told: Mapping[str, Any]) -> Translation:
    recipe = Recipe()
    image = part(told, "image")
    prompt = image.get("prompt")
    parts = [str(each.get("prompt", "")) for each in entries(prompt) if isinstance(each, dict)] or [str(prompt or "")]
    if len(parts) > 1:
        recipe.approximated("prompt", "several weighted prompts were joined by AND")
    _both_prompts(" AND ".join(parts), recipe)
    recipe.set("Steps", image.get("steps"))
    _sampler(image.get("sampler"), recipe)
    recipe.set("CFG scale", image.get("cfg_scale"))
    recipe.set("Seed", image.get("seed"))
    recipe.set("Size", size(image.get("width"), image.get("height")))
    _model(told.get("model_weights"), recipe)
    recipe.set("Denoising strength", image.get("strength") if image.get("type") == "img2img" else None)
    axes = entries(image.get("seamless_axes")) or ["x", "y"]
    recipe.set("Tiling", TILING.get(("x" in axes, "y" in axes)) if image.get("seamless") else None)
    _left_out(image, TAKEN_OLD, recipe)
    return recipe.translation()


def _from_command(command: str) -> Translation:
    recipe = Recipe()
    prompt, told = _arguments(command[:100_000])
    _both_prompts(prompt, recipe)
    recipe.set("Steps", told.get("Steps"))
    _sampler(told.get("sampler"), recipe)
    recipe.set("CFG scale", told.get("CFG scale"))
    recipe.set("Seed", told.get("Seed"))
    recipe.set("Size", size(told.get("width"), told.get("height")))
    recipe.set("Denoising strength", told.get("Denoising strength"))
    recipe.set("Tiling", "True" if "Tiling" in told else None)
    _left_out(told, {*DREAM.values()}, recipe)
    return recipe.translation()


def _arguments(command: str) -> tuple[str, dict[str, str]]:
    """(prompt, values by the names that DREAM gives their flags, others by the flags themselves)."""
    try:
        words = shlex.split(command)
    except ValueError:  # an apostrophe in a prompt without quotes
        words = command.split()
        if not any(FLAG.fullmatch(word) for word in words):
            return "", {}
    first = next((i for i, word in enumerate(words) if i and FLAG.fullmatch(word)), len(words))
    told: dict[str, str] = {}
    for word, following in itertools.pairwise([*words[first:], ""]):
        found = FLAG.fullmatch(word)
        if found:
            told[DREAM.get(found[1], found[1])] = found[2] or ("" if FLAG.fullmatch(following) else following) or found[1]
    return " ".join(words[:first]), told


def _both_prompts(text: str, recipe: Recipe) -> None:
    """Up to InvokeAI 2 the negative prompt stood in the prompt, in square brackets."""
    tags = [lora_tag(name, weight) for name, weight in LORA.findall(text)]
    text = LORA.sub("", text)
    positive, negative = [], []
    for piece in text.split("["):
        inner, closed, rest = piece.partition("]")
        positive.append(rest if closed else piece)
        negative.append(inner if closed else "")
    recipe.prompt = " ".join(filter(None, (_prompt("prompt", "".join(positive), recipe), *tags)))
    recipe.negative_prompt = _prompt("prompt", ", ".join(filter(None, negative)), recipe)


def _prompt(key: str, text: Any, recipe: Recipe) -> str:
    if not isinstance(text, str):
        return ""
    if any(blend in text for blend in BLENDS):
        recipe.not_understood(key, "blends of prompts were left as they are written: they mean nothing here")
        return text
    converted = compel(text).strip()
    if converted != text.strip():
        recipe.approximated(key, "weights were rewritten; InvokeAI weighs words in another way")
    return converted


def _sampler(name: Any, recipe: Recipe) -> None:
    told = written(name)
    bare = told if told in INVOKEAI_SAMPLERS else told.removesuffix("_k")
    recipe.set("Sampler", INVOKEAI_SAMPLERS.get(bare, told))
    if told and bare not in INVOKEAI_SAMPLERS:
        recipe.not_understood("scheduler", f"scheduler {told[:60]!r} is not known here")
    elif bare != told:
        recipe.set("Schedule type", "Karras")
    elif told and evenly_spaced(INVOKEAI_SAMPLERS[bare]) != "Automatic":
        recipe.set("Schedule type", "Uniform")


def _model(model: Any, recipe: Recipe) -> None:
    name = model.get("name") or model.get("model_name") if isinstance(model, dict) else model
    recipe.set("Model", stem(name))
    if isinstance(model, dict) and model.get("hash"):
        recipe.approximated("Model hash", "InvokeAI's hashes are of another kind, so the checkpoint is looked for by its name")


def _tag(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    model = part(entry, "model") or part(entry, "lora")
    return lora_tag(model.get("name") or model.get("model_name"), entry.get("weight", 1))
