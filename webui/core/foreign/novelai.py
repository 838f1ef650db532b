"""NovelAI's recipes: PNG texts Software, Source, Description and Comment, the last one JSON."""

from collections.abc import Mapping
from typing import Any

from webui.core.foreign.samplers import NOVELAI_SAMPLERS, NOVELAI_SCHEDULES, evenly_spaced
from webui.core.foreign.translation import Recipe, Translation, entries, loads, part, size, written
from webui.core.foreign.weights import novelai as weighted

UNKNOWN_HERE = {"sm": "SMEA", "sm_dyn": "SMEA DYN", "dynamic_thresholding": "decrisper", "reference_image_multiple": "vibe transfer"}


def translate(items: Mapping[str, str]) -> Translation:
    """The recipe as infotext. Clip skip 2 and ENSD 31337 are what the field assumes for NovelAI's first model."""
    told = loads(items.get("Comment", ""))
    recipe = Recipe()
    prompt = part(told, "v4_prompt").get("caption")
    negative = part(told, "v4_negative_prompt").get("caption")
    recipe.prompt = weighted(_prompt(prompt, told.get("prompt") or items.get("Description", ""), recipe))
    recipe.negative_prompt = weighted(_prompt(negative, told.get("uc"), recipe))
    if not told:
        return recipe.translation()
    recipe.set("Steps", told.get("steps"))
    _sampler(told, recipe)
    recipe.set("CFG scale", told.get("scale"))
    recipe.set("Seed", told.get("seed"))
    recipe.set("Size", size(told.get("width"), told.get("height")))
    if "strength" in told and ("image" in told or told.get("request_type") not in (None, "PromptGenerateRequest")):
        recipe.set("Denoising strength", told["strength"])
        if told.get("noise"):
            recipe.not_understood("noise", f"noise {written(told['noise'])[:20]}, put onto the picture that it began from, was left out")
    recipe.set("CFG Rescale phi", told.get("cfg_rescale") or None)
    recipe.set("Clip skip", 2)
    recipe.set("ENSD", 31337)
    recipe.approximated(
        "Model", f"the picture was made by {items.get('Source') or 'NovelAI'}, whose models cannot be had: another one draws it here"
    )
    for key, name in UNKNOWN_HERE.items():
        if told.get(key):
            recipe.not_understood(key, f"{name} is not known here")
    _guidance(told, recipe)
    return recipe.translation()


def _guidance(told: Mapping[str, Any], recipe: Recipe) -> None:
    """What NovelAI does to the guidance and nobody here; an uncond_scale of 0 or 1 is written where none was chosen."""
    if told.get("skip_cfg_above_sigma"):
        sentence = f"guidance began below sigma {written(told['skip_cfg_above_sigma'])[:20]} only; here it is there from the first step"
        recipe.not_understood("skip_cfg_above_sigma", sentence)
    if told.get("uncond_scale") not in (None, 0, 1):
        recipe.not_understood("uncond_scale", f"the negative prompt had a strength of {written(told['uncond_scale'])[:20]}; here it has 1")


def _sampler(told: Mapping[str, Any], recipe: Recipe) -> None:
    name, schedule = str(told.get("sampler", "")), str(told.get("noise_schedule", "native"))
    recipe.set("Sampler", NOVELAI_SAMPLERS.get(name, name))
    recipe.set(
        "Schedule type", evenly_spaced(NOVELAI_SAMPLERS.get(name, name)) if schedule == "native" else NOVELAI_SCHEDULES.get(schedule)
    )
    if name not in NOVELAI_SAMPLERS:
        recipe.not_understood("sampler", f"sampler {name[:60]!r} is not known here")
    if schedule not in ("native", *NOVELAI_SCHEDULES):
        recipe.not_understood("noise_schedule", f"noise schedule {schedule[:60]!r} is not known here")


def _prompt(caption: Any, plain: Any, recipe: Recipe) -> str:
    """The plain prompt, or that of V4: the picture's, then each character's, which stand in one prompt here."""
    if not isinstance(caption, dict):
        return plain if isinstance(plain, str) else ""
    characters = [str(each.get("char_caption", "")) for each in entries(caption.get("char_captions")) if isinstance(each, dict)]
    if any(characters):
        recipe.approximated("char_captions", "the characters' own prompts were joined to the prompt; where they stand is lost")
    return ", ".join(text for text in (str(caption.get("base_caption", "")), *characters) if text)
