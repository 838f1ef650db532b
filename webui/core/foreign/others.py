"""Recipes of Fooocus and SwarmUI (JSON), and those of SD.Next and Civitai, who write A1111's layout with words of their own."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from webui.core.foreign.samplers import COMFYUI_SAMPLERS, COMFYUI_SCHEDULES
from webui.core.foreign.translation import NOT_UNDERSTOOD, Note, Recipe, Translation, entries, loads, lora_tag, part, size, stem, written
from webui.core.key_values import items as pairs
from webui.core.key_values import joined
from webui.core.named_models import NamedModel

SDNEXT_KEYS = {  # SD.Next's name -> everybody's
    "CLiP-skip": "Clip skip",
    "Variation strength": "Variation seed strength",
    "Hires scale": "Hires upscale",
    "Hires size": "Hires resize",
    "Hires strength": "Denoising strength",
    "Denoise": "Denoising strength",
    "CFG rescale": "CFG Rescale phi",
}
NO_VAE = "Default (model)"  # Fooocus' word for the checkpoint's own
MOST_RESOURCES = 20
TAG = re.compile(r"<\w{1,20}:([^:<>]{1,200})")
Setting = tuple[str, str]  # key, value
FOOOCUS_LEFT = ("sharpness", "adm_guidance", "refiner_swap_method", "freeu", "inpaint_engine_version", "prompt_expansion")


def fooocus(items: Mapping[str, str]) -> Translation | None:
    """The JSON that scheme "fooocus" puts where others have their text; scheme "a1111" is A1111's text with one word of
    its own: None where that is not there."""
    told = loads(items.get("parameters", "")) or loads(items.get("Comment", ""))
    if not told:
        return _rewritten(items.get("parameters", ""), lambda told: [each for each in told if each != ("VAE", NO_VAE)])
    recipe = Recipe()
    tags = [lora_tag(each[0], each[1]) for each in entries(told.get("loras")) if isinstance(each, list) and len(each) > 1]
    full = [written(each) for each in entries(told.get("full_prompt"))]
    recipe.prompt = " ".join(filter(None, (written(told.get("prompt")) or ", ".join(full), *tags)))
    recipe.negative_prompt = written(told.get("negative_prompt"))
    recipe.set("Steps", told.get("steps"))
    _comfy_sampler(told, recipe)
    recipe.set("CFG scale", told.get("guidance_scale"))
    recipe.set("Seed", told.get("seed"))
    recipe.set("Size", _pair(told.get("resolution")))
    recipe.set("Model hash", told.get("base_model_hash"))
    recipe.set("Model", stem(told.get("base_model")))
    recipe.set("VAE", None if told.get("vae") == NO_VAE else stem(told.get("vae")))
    recipe.set("Clip skip", told.get("clip_skip"))
    if stem(told.get("refiner_model")) not in ("", "None"):
        recipe.set("Refiner", stem(told["refiner_model"]))
        recipe.set("Refiner switch at", told.get("refiner_switch"))
    if told.get("styles") not in (None, [], "[]", ""):
        recipe.not_understood("styles", f"Fooocus' styles are not known here: {str(told['styles'])[:200]}")
    for key in FOOOCUS_LEFT:
        if told.get(key):
            recipe.not_understood(key, f"{key} is Fooocus' own")
    return recipe.translation()


def _pair(text: Any) -> str:
    """Fooocus writes sizes as Python does: "(1152, 896)"."""
    try:
        sides = ast.literal_eval(text) if isinstance(text, str) and len(text) < 40 else text
    except (ValueError, SyntaxError):
        return ""
    return size(*sides) if isinstance(sides, (tuple, list)) and len(sides) == 2 else ""


def swarmui(text: str) -> Translation | None:
    """SwarmUI's JSON, which holds the object "sui_image_params"."""
    told = part(loads(text), "sui_image_params")
    if not told:
        return None
    recipe = Recipe()
    weights = [*entries(told.get("loraweights")), *["1"] * 100]
    tags = [lora_tag(name, weight) for name, weight in zip(entries(told.get("loras")), weights, strict=False)]
    recipe.prompt = " ".join(filter(None, (written(told.get("prompt")), *tags)))
    recipe.negative_prompt = written(told.get("negativeprompt"))
    recipe.set("Steps", told.get("steps"))
    _comfy_sampler(told, recipe)
    recipe.set("CFG scale", told.get("cfgscale"))
    recipe.set("Seed", told.get("seed"))
    recipe.set("Size", size(told.get("width"), told.get("height")))
    recipe.set("Model", stem(told.get("model")))
    recipe.set("VAE", stem(told.get("vae")))
    recipe.set("Variation seed", told.get("variationseed"))
    recipe.set("Variation seed strength", told.get("variationseedstrength"))
    return recipe.translation()


def _comfy_sampler(told: Mapping[str, Any], recipe: Recipe) -> None:
    """Both programs draw with ComfyUI's samplers and call them by its names; noise comes from the CPU, as it does there."""
    if told.get("seed") is not None:
        recipe.set("RNG", "CPU")
    for key, names, setting in (("sampler", COMFYUI_SAMPLERS, "Sampler"), ("scheduler", COMFYUI_SCHEDULES, "Schedule type")):
        name = written(told.get(key))
        recipe.set(setting, names.get(name, name))
        recipe.set("UniPC variant", "bh2" if name == "uni_pc_bh2" else None)
        if name and name not in names:
            recipe.not_understood(key, f"{key} {name[:60]!r} is not known here")


def sdnext(text: str) -> Translation | None:
    """SD.Next's text with everybody's keys; None where there is nothing to change."""
    return _rewritten(text, lambda told: [(SDNEXT_KEYS.get(key, key), value) for key, value in told])


def _rewritten(text: str, change: Callable[[list[Setting]], list[Setting]]) -> Translation | None:
    """A1111's layout with other settings in its last line; None where they stay as they are."""
    head, line = text.rstrip().rpartition("\n")[::2]
    told = list(pairs(line))
    changed = change(told)
    if changed == told:
        return None
    return Translation(f"{head}\n{joined(changed)}" if head else joined(changed))


def civitai(text: str) -> Translation:
    """What Civitai's generator used and did not write into the prompt: notes, and the checkpoint's name."""
    prompts, _, line = text.rstrip().rpartition("\n")
    settings = dict(pairs(line))
    try:
        used = json.loads(settings.get("Civitai resources") or "[]")
    except (ValueError, RecursionError):
        return Translation(text)
    notes, models = [], []
    for each in (each for each in entries(used)[:MOST_RESOURCES] if isinstance(each, dict)):
        name = written(each.get("modelName"))
        if not name:
            notes.append(_unnamed(each))
        elif written(each.get("type")).casefold() != "checkpoint":
            notes += _without_tag(each, name, prompts)
        elif "Model" not in settings:
            models.append(NamedModel("checkpoint", name))
    return Translation(text, tuple(notes), tuple(models))


def _unnamed(resource: Mapping[str, Any]) -> Note:
    """A resource that is told by a number, or as "urn:air:sd1:lora:civitai:1@2", where the words stand for family, kind and number."""
    urn = written(resource.get("air"))
    kind = written(resource.get("type")) or "".join(urn.split(":")[3:4]) or "model"
    number = urn.rpartition(":")[2] or written(resource.get("modelVersionId")) or "?"
    sentence = f"Civitai used {kind[:40]} {number[:60]} and does not name it; look for that number on its site"
    return Note(NOT_UNDERSTOOD, f"{kind} {number}"[:60], sentence)


def _without_tag(resource: Mapping[str, Any], name: str, prompts: str) -> list[Note]:
    """A note on a network, unless a tag of the prompts has a name like its own; embeddings are called by their bare name."""
    kind, weight = written(resource.get("type")) or "model", written(resource.get("weight")) or "1"
    bare = _squeezed(name)
    tags = [_squeezed(tag) for tag in TAG.findall(prompts)]
    if any(tag and bare and (tag in bare or bare in tag) for tag in tags) or (kind.startswith("embed") and bare in _squeezed(prompts)):
        return []
    sentence = f"Civitai used {kind} {name[:80]!r} at {weight} without a tag; put your file's tag into the prompt"
    return [Note(NOT_UNDERSTOOD, name[:60], sentence)]


def _squeezed(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
