"""Fills in what a request leaves open, from preferences, catalog and input pictures, so that it says all that the picture depends on."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from PIL import Image

from webui.core.catalog import Catalog, ModelFile
from webui.core.choices import SAMPLERS, SamplerChoice, find_sampler
from webui.core.errors import BadModelFile, BadRequest
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.networks import extract_networks, hypernetwork_strength, lora_strengths
from webui.core.request import MAX_SIDE, GenerationRequest
from webui.core.scripts.plan import PREVIOUS, Step
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.table import find_script

SMALLEST_SIDE = 64  # pixels
SEEDS = 2**32  # drawn seeds lie below


def complete(
    request: GenerationRequest,
    catalog: Catalog,
    preferences: Mapping[str, Any],
    open_input: Callable[[str], Image.Image],
) -> GenerationRequest:
    """The request with nothing left open; what is set already stays. Raises BadRequest, MissingModel."""
    _check_networks(request.prompt, catalog)
    if request.aesthetic is not None:
        catalog.find_aesthetic(request.aesthetic.embedding)
    checkpoint = _usable(catalog.find_checkpoint(request.checkpoint or preferences["sd_model_checkpoint"]))
    vae = _vae(request, checkpoint, catalog, preferences)
    size = _size(request, catalog.native_size(checkpoint), open_input)
    sampler, schedule_type = _sampler(request)
    done = replace(
        request,
        prompt=_storable(request.prompt),
        negative_prompt=_storable(request.negative_prompt),
        checkpoint=checkpoint.name,
        checkpoint_hash=checkpoint.short_hash,
        vae=vae.name if vae else "None",
        vae_hash=vae.short_hash if vae else "",
        prediction_type=_prediction_type(request, checkpoint, catalog),
        width=size[0],
        height=size[1],
        sampler=sampler,
        schedule_type=schedule_type,
        seed=_seed(request.seed),
        variation_seed=_seed(request.variation_seed) if request.variation_strength else max(request.variation_seed, 0),
    )
    done.validate()
    return done


def complete_script(
    request: ScriptRequest,
    catalog: Catalog,
    preferences: Mapping[str, Any],
    open_input: Callable[[str], Image.Image],
) -> ScriptRequest:
    """The script with each of its requests complete. Raises BadRequest, MissingModel, naming the one that cannot be carried out."""
    script = find_script(request.script)
    plan = script.plan(request.base, request.arguments, lambda: _seed(-1))
    opened = cache(open_input)  # all steps begin with the same picture
    steps = tuple(replace(step, request=_complete_step(step, request.base, catalog, preferences, opened)) for step in plan.steps)
    return replace(request, script=script.title).planned(replace(plan, steps=steps))


def _complete_step(
    step: Step, base: GenerationRequest, catalog: Catalog, preferences: Mapping[str, Any], open_input: Callable[[str], Image.Image]
) -> GenerationRequest:
    """A step's request with nothing left open but its init image, where that is the picture of the step before."""
    request = step.request
    follows = request.init is not None and base.init is not None and request.init.image == PREVIOUS
    if follows:
        request = _with_image(request, base.init.image if base.init else "")
    try:
        done = complete(request, catalog, preferences, open_input)
    except BadRequest as error:
        raise type(error)(f"{step.name}: {error}") from None
    return _with_image(done, PREVIOUS) if follows else done


def _with_image(request: GenerationRequest, image: str) -> GenerationRequest:
    return replace(request, init=replace(request.init, image=image)) if request.init else request


def complete_order(order: MergeRecipe | SaveOrder, catalog: Catalog) -> MergeRecipe | SaveOrder:
    """The order with the catalog's names for its checkpoints and its VAE. Raises BadRequest, MissingModel."""
    order.validate()

    def vae(name: str) -> str:
        return name if name in ("", "None") else catalog.find_vae(name).name

    if isinstance(order, SaveOrder):
        checkpoint = _usable(catalog.find_checkpoint(order.checkpoint))
        predicts = _prediction_type(order, checkpoint, catalog)
        return replace(order, checkpoint=checkpoint.name, vae=vae(order.vae), prediction_type=predicts)
    slots = zip(("primary", "secondary", "tertiary"), order.checkpoints, strict=False)
    names: dict[str, Any] = {slot: _usable(catalog.find_checkpoint(name)).name for slot, name in slots}
    return replace(order, **names, bake_in_vae=vae(order.bake_in_vae))


def _check_networks(prompt: str, catalog: Catalog) -> None:
    """Tell now, not after minutes in the queue, that a network is missing or its tag is wrong."""
    for use in extract_networks(prompt)[1]:
        if use.kind == "lora":
            lora_strengths(use)
            catalog.find_lora(use.name)
        elif use.kind == "hypernet":
            hypernetwork_strength(use)
            catalog.find_hypernetwork(use.name)


def _storable(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can bring and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _usable(checkpoint: ModelFile) -> ModelFile:
    if checkpoint.problem:
        raise BadModelFile(f"checkpoint {checkpoint.name} cannot be used: {checkpoint.problem}")
    return checkpoint


def _vae(request: GenerationRequest, checkpoint: ModelFile, catalog: Catalog, preferences: Mapping[str, Any]) -> ModelFile | None:
    """The VAE to use, None for the checkpoint's own."""
    name = request.vae.strip() or "Automatic"
    if name == "Automatic":
        name = str(preferences["sd_vae"]).strip() or "Automatic"
    if name == "Automatic":
        return catalog.vae_for(checkpoint)
    return None if name == "None" else catalog.find_vae(name)


def _sampler(request: GenerationRequest) -> tuple[str, str]:
    """(sampler, schedule type): the actual one where the sampler has one of its own, as A1111 writes it; "Automatic" for the rest."""
    sampler, schedule_type = find_sampler(request.sampler, request.schedule_type)
    own = SAMPLERS[sampler].default_schedule
    return sampler, own if schedule_type == "Automatic" and own != SamplerChoice.default_schedule else schedule_type


def _prediction_type(request: GenerationRequest | SaveOrder, checkpoint: ModelFile, catalog: Catalog) -> str:
    """As asked, else as the checkpoint's card says, else as its file does."""
    return request.prediction_type or catalog.notes_on(checkpoint).prediction_type or "Automatic"


def _size(request: GenerationRequest, native: int, open_input: Callable[[str], Image.Image]) -> tuple[int, int]:
    """(width, height) in pixels: as asked, else that of the init image, else the checkpoint's native size."""
    if request.init is None:
        return request.width or native, request.height or native
    if request.init.inpaint is not None:
        open_input(request.init.inpaint.mask)  # a mask that is not there is told now, not by the worker
    width, height = open_input(request.init.image).size
    sides = request.init.outpaint
    if sides is not None:
        return _extended(width + sides.left + sides.right, height + sides.top + sides.bottom)
    return request.width or _rounded(width), request.height or _rounded(height)


def _extended(width: int, height: int) -> tuple[int, int]:
    """The size of an outpainted picture. Raises BadRequest with a sentence about the picture: nobody typed a size."""
    if min(width, height) < SMALLEST_SIDE:
        raise BadRequest(
            f"the picture, extended, would have {width} x {height} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed: "
            "use a larger picture, or extend it further"
        )
    if max(width, height) > MAX_SIDE:
        raise BadRequest(
            f"the picture, extended, would have {width} x {height} pixels; at most {MAX_SIDE} x {MAX_SIDE} can be made: "
            "use a smaller picture, or extend it less"
        )
    return width, height


def _rounded(side: int) -> int:
    """A picture's side as a request's: a multiple of 8, not too small; one that is too large is left for `validate` to refuse."""
    return max(side // 8 * 8, SMALLEST_SIDE)


def _seed(seed: int) -> int:
    return secrets.randbelow(SEEDS) if seed == -1 else seed
