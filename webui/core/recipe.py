"""The lossless recipe beside a picture's infotext: its request, the files and programs it was made with, and what its pixels were."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from webui.core.catalog import HASHED_AT_ONCE, Catalog, ModelFile
from webui.core.infotext import read
from webui.core.networks import extract_networks
from webui.core.request import GenerationRequest
from webui.core.text_encoders import names_in
from webui.core.upscalers import needs_model


@dataclass(frozen=True)
class Recipe:
    """All that a picture depends on. files: role and name ("checkpoint a.safetensors", "lora ink") -> sha256, where it was known;
    environment: name -> version, device and number types; pixels: `pixel_hash` of the picture, "" where it was not recorded."""

    request: GenerationRequest
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    pixels: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for a picture's chunk; `read_recipe` reads it back."""
        return {
            "request": self.request.to_json(),
            "files": dict(self.files),
            "environment": dict(self.environment),
            "pixels": self.pixels,
        }


def read_recipe(text: str) -> Recipe | None:
    """The recipe in a picture's chunk; None where there is none that can be read. Never raises."""
    try:
        told = json.loads(text)
        request = GenerationRequest.from_json(told.get("request", told))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Recipe(request, _texts(told.get("files")), _texts(told.get("environment")), str(told.get("pixels") or ""))


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def pixel_hash(image: Image.Image) -> str:
    """sha256 of a picture's size and pixels as 8-bit RGB, rows from the top."""
    pixels = image.convert("RGB")
    return hashlib.sha256(f"{pixels.width}x{pixels.height}:".encode() + pixels.tobytes()).hexdigest()


def used_files(request: GenerationRequest, infotext: str, catalog: Catalog) -> dict[str, str]:
    """The `files` of a recipe: checkpoint, VAE, and the networks and embeddings that were used, each with its sha256 if that is known."""
    found: dict[str, ModelFile] = {f"checkpoint {request.checkpoint}": catalog.find_checkpoint(request.checkpoint)}
    for part in (request.hires, request.refiner):
        if part is not None and part.checkpoint:
            found[f"checkpoint {part.checkpoint}"] = catalog.find_checkpoint(part.checkpoint)
    if request.vae not in ("None", "Automatic"):
        found[f"vae {request.vae}"] = catalog.find_vae(request.vae)
    found |= {f"text_encoder {name}": catalog.text_encoders.find(name) for name in names_in(request.text_encoder)}
    find = {"lora": catalog.find_lora, "hypernet": catalog.find_hypernetwork}
    prompts = (request.prompt, request.hires.prompt if request.hires else "")
    for use in (use for prompt in prompts for use in extract_networks(prompt)[1]):
        if use.kind in find:
            found[f"{use.kind} {use.name}"] = find[use.kind](use.name)
    for upscaler in filter(needs_model, used_upscalers(request)):
        found[f"upscaler {upscaler}"] = catalog.find_upscaler(upscaler)
    if request.aesthetic is not None:
        found[f"aesthetic {request.aesthetic.embedding}"] = catalog.find_aesthetic(request.aesthetic.embedding)
    called = {part.partition(":")[0].strip() for part in read(infotext).params.get("TI hashes", "").split(",")} - {""}
    found |= {f"embedding {file.stem}": file for file in catalog.embeddings() if file.stem in called}
    known = {role: file if file.size > HASHED_AT_ONCE else catalog.with_hash(file) for role, file in found.items()}
    return {role: file.sha256 for role, file in known.items() if file.sha256}


def used_upscalers(request: GenerationRequest) -> list[str]:
    """The upscalers that a request names."""
    tiles = request.init.upscale if request.init else None
    return [part.upscaler for part in (request.hires, tiles) if part is not None]


def differences(then: Recipe, now: Recipe) -> list[str]:
    """A sentence for each file and each part of the environment that is another one now."""
    sentences = [
        f"{role} is another file: its sha256 was {digest[:10]}, here it is {now.files[role][:10]}"
        for role, digest in then.files.items()
        if role in now.files and now.files[role] != digest
    ]
    sentences += [
        f"{name} was {value}, here it is {now.environment.get(name, 'not known')}"
        for name, value in then.environment.items()
        if now.environment.get(name) != value
    ]
    return sentences
