"""Recipes of Fooocus and SwarmUI (JSON), and those of SD.Next and Civitai, who write A1111's layout with words of their own."""

import ast
import json
from collections.abc import Mapping
from typing import Any

from webui.core.foreign.samplers import COMFYUI_SAMPLERS, COMFYUI_SCHEDULES
from webui.core.foreign.translation import NOT_UNDERSTOOD, Note, Recipe, Translation, entries, loads, lora_tag, part, size, stem, written
from webui.core.key_values import items as pairs
from webui.core.key_values import joined

SDNEXT_KEYS = {  # SD.Next's name -> everybody's
    "CLiP-skip": "Clip skip",
    "Variation strength": "Variation seed strength",
    "Hires scale": "Hires upscale",
    "Hires size": "Hires resize",
    "Hires strength": "Denoising strength",
    "Denoise": "Denoising strength",
}
FOOOCUS_LEFT = ("sharpness", "adm_guidance", "refiner_swap_method", "freeu", "inpaint_engine_version", "prompt_expansion")


def fooocus(items: Mapping[str, str]) -> Translation | None:
    """The JSON that scheme "fooocus" puts where others have their text; None for scheme "a1111", which is A1111's text."""
    told = loads(items.get("parameters", "")) or loads(items.get("Comment", ""))
    if not told:
        return None
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
    recipe.set("VAE", None if told.get("vae") == "Default (model)" else stem(told.get("vae")))
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
        if name and name not in names:
            recipe.not_understood(key, f"{key} {name[:60]!r} is not known here")


def sdnext(text: str) -> Translation | None:
    """SD.Next's text with everybody's keys; None where there is nothing to change."""
    head, line = text.rstrip().rpartition("\n")[::2]
    told = list(pairs(line))
    if not any(key in SDNEXT_KEYS for key, _ in told):
        return None
    renamed = joined((SDNEXT_KEYS.get(key, key), value) for key, value in told)
    return Translation(f"{head}\n{renamed}" if head else renamed)


def civitai(text: str) -> tuple[Note, ...]:
    """What Civitai's generator used and did not write into the prompt."""
    resources = next((value for key, value in pairs(text.rstrip().rpartition("\n")[2]) if key == "Civitai resources"), "")
    try:
        used = json.loads(resources) if resources else []
    except (ValueError, RecursionError):
        return ()
    notes = []
    for each in entries(used)[:20]:
        kind, name = (written(each.get(key)) for key in ("type", "modelName")) if isinstance(each, dict) else ("", "")
        if kind and kind != "checkpoint" and name and f"<{kind}:" not in text:
            weight = written(each.get("weight")) or "1"
            sentence = f"Civitai used {kind} {name[:80]!r} at {weight} without a tag; put your file's tag into the prompt"
            notes.append(Note(NOT_UNDERSTOOD, name[:60], sentence))
    return tuple(notes)
