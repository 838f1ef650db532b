"""What makes pictures larger: the filters that are always there, and the model files in their folders."""

import re
from collections.abc import Callable, Sequence

from webui.core.choices import LATENT_UPSCALERS, PIXEL_UPSCALERS
from webui.core.errors import MissingModel
from webui.core.model_listing import ModelFile, list_models, without_ending
from webui.core.settings import Settings

ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
USUAL_SCALE = 4.0  # of models whose names do not tell
FindUpscaler = Callable[[str], ModelFile]


def list_upscalers(settings: Settings) -> list[ModelFile]:
    """The model files, in the order of their folders; nothing is opened."""
    return list_models(settings.upscaler_dirs, ENDINGS)


def upscaler_name(model: ModelFile) -> str:
    """By which requests, lists and infotexts call it: its path below the folder without ending."""
    return without_ending(model.name)


def find_listed_upscaler(text: str, models: Sequence[ModelFile], folder: str) -> ModelFile:
    """The one that `text` names: by name, file name or stem, as it is spelled before any spelling. Raises MissingModel."""
    wanted = text.strip()
    for fold in (str, str.casefold):
        for model in models:
            names = (upscaler_name(model), model.name, model.path.name, model.stem)
            if fold(wanted) in map(fold, names):
                return model
    known = ", ".join([*PIXEL_UPSCALERS, *map(upscaler_name, models)])
    raise MissingModel(f"upscaler {wanted[:100]!r} is not known; choose one of: {known[:600]}; or put its file into {folder}")


def settled_upscaler(text: str, find: FindUpscaler, latent: bool = False) -> str:
    """The one spelling of an upscaler's name; "" is "None". latent: those that hires fix has are among the choices.

    Raises MissingModel.
    """
    wanted = text.strip() or "None"
    always: tuple[str, ...] = (*PIXEL_UPSCALERS, *LATENT_UPSCALERS) if latent else PIXEL_UPSCALERS
    return next((name for name in always if wanted.casefold() == name.casefold()), "") or upscaler_name(find(wanted))


def needs_model(name: str) -> bool:
    """Whether an upscaler is a model file."""
    return name not in PIXEL_UPSCALERS and name not in LATENT_UPSCALERS


def told_scale(name: str) -> float:
    """By how much a model enlarges, as its name says: 2.0 of "RealESRGAN_x2plus", 4.0 of "4x-UltraSharp"; else USUAL_SCALE."""
    found = re.search(r"(?<![a-z0-9])(?:x(\d)|(\d)x)|x(\d)(?![0-9])", name.casefold())
    scale = float(next(filter(None, found.groups()), 0)) if found else 0.0
    return scale or USUAL_SCALE
