"""The model files that an infotext names: kind, name and hash of each, for whoever looks whether they are here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from webui.core import infotext
from webui.core.errors import BadRequest
from webui.core.lora_hash import read_lora_hashes
from webui.core.networks import extract_networks
from webui.core.request import GenerationRequest
from webui.core.text_encoders import names_in
from webui.core.upscalers import needs_model

NETWORKS = {"lora": "lora", "hypernet": "hypernetwork"}  # word of a tag -> kind
ROLES = {"hypernetwork": "hypernet"}  # kind -> its word in a recipe, where that is another one
MOST_NAMED = 40  # models of one infotext
OWN = ("", "None", "Automatic")  # no file
HASHED = re.compile(r"(.+) \[([0-9a-f]{8,64})\]")  # "stem [hash]"


@dataclass(frozen=True)
class NamedModel:
    """kind: a kind of core.model_listing, "text_encoder" or "upscaler"; digits: of its hash (of LoRAs: core.lora_hash); "": not told."""

    kind: str
    name: str
    digits: str = ""


def named_models(told: infotext.Infotext, files: Mapping[str, str] | None = None) -> list[NamedModel]:
    """Every model once, at most MOST_NAMED, in the order checkpoints, VAE, text encoders, networks, embeddings, upscalers.

    files: of a recipe (core.recipe), which knows whole hashes of what an infotext only names.
    """
    request, _ = infotext.to_request(told, GenerationRequest())
    whole = {role: digest for role, digest in (files or {}).items() if not role.startswith("lora ")}  # LoRAs have a hash of another kind
    found: dict[tuple[str, str], str] = {}
    for kind, name, digits in (*_checkpoints(told, request), *_mentioned(told, request), *_others(told, request)):
        digits = digits or whole.get(f"{ROLES.get(kind, kind)} {name}", "")
        found[kind, name] = found.get((kind, name)) or digits.lower()
    return [NamedModel(kind, name, digits) for (kind, name), digits in islice(found.items(), MOST_NAMED)]


def _checkpoints(told: infotext.Infotext, request: GenerationRequest) -> Iterator[tuple[str, str, str]]:
    params = told.params
    name = params.get("Model file") or params.get("Model", "")
    if name or params.get("Model hash"):
        yield "checkpoint", name, params.get("Model hash", "")
    for part in (request.hires, request.refiner):
        if part is not None and part.checkpoint:
            parted = HASHED.fullmatch(part.checkpoint)
            yield ("checkpoint", parted[1], parted[2]) if parted else ("checkpoint", part.checkpoint, part.checkpoint_hash)
    if request.vae not in OWN:
        yield "vae", request.vae, request.vae_hash
    for name in names_in(request.text_encoder):
        yield "text_encoder", name, ""


def _mentioned(told: infotext.Infotext, request: GenerationRequest) -> Iterator[tuple[str, str, str]]:
    hashes = read_lora_hashes(told.params.get("Lora hashes", ""))
    prompts = (told.prompt, request.hires.prompt if request.hires else "")
    for use in (use for prompt in prompts for use in _uses(prompt)):
        if use[0] in NETWORKS:
            digits = hashes.pop(use[1].replace(":", "").replace(",", ""), "") if use[0] == "lora" else ""
            yield NETWORKS[use[0]], use[1], digits
    for name, digits in hashes.items():
        yield "lora", name, digits


def _uses(prompt: str) -> list[tuple[str, str]]:
    """(word, name) of the tags in a prompt; [] where one is wrong."""
    try:
        return [(use.kind, use.name) for use in extract_networks(prompt)[1]]
    except BadRequest:
        return []


def _others(told: infotext.Infotext, request: GenerationRequest) -> Iterator[tuple[str, str, str]]:
    for name, digits in read_lora_hashes(told.params.get("TI hashes", "")).items():
        yield "embedding", name, digits
    if request.aesthetic is not None:
        yield "aesthetic", request.aesthetic.embedding, ""
    for name in (told.params.get("Hires upscaler", ""), told.params.get("SD upscale upscaler", "")):
        if name and needs_model(name):
            yield "upscaler", name, ""
