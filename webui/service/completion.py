"""Fills in what a request leaves open, from preferences, catalog and input pictures, so that it says all that the picture depends on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from PIL import Image

from webui.core.catalog import Catalog, ModelFile
from webui.core.choices import LATENT_UPSCALERS, SAMPLERS, SamplerChoice, find_sampler
from webui.core.errors import BadModelFile, BadRequest
from webui.core.extras import ExtrasRequest
from webui.core.guidance_options import GuidanceOptions, preferred_guidance
from webui.core.hires import HiresFix, find_second_sampler
from webui.core.model_orders import MergeRecipe, SaveOrder, WeightsOrder
from webui.core.networks import extract_networks, hypernetwork_strength, lora_strengths
from webui.core.prompt import pieces_of
from webui.core.prompt_schedule import parse_prompt, parse_schedule
from webui.core.refiner import NONE, Refiner
from webui.core.request import MAX_SIDE, GenerationRequest, InitImage
from webui.core.sampler_options import preferred_options
from webui.core.scripts.plan import PREVIOUS, Step
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.table import find_script
from webui.core.text_encoders import SEPARATOR
from webui.core.training_request import TrainingRequest
from webui.core.upscalers import settled_upscaler
from webui.core.xray import Interpolation, Noising, XrayRequest
from webui.service.phrases import Phrases
from webui.service.wording import drawn_seed, settled_words

SMALLEST_SIDE = 64  # pixels


def complete(
    request: GenerationRequest,
    catalog: Catalog,
    preferences: Mapping[str, Any],
    open_input: Callable[[str], Image.Image],
    phrases: Phrases,
) -> GenerationRequest:
    """The request with nothing left open; what is set already stays. Raises BadRequest, MissingModel."""
    request = settled_words(request, phrases, bool(preferences["enable_prompt_comments"]))
    for prompt in dict.fromkeys([request.prompt, *(prompt for prompt, *_ in request.each)]):
        _check_networks(prompt, catalog)
    if request.aesthetic is not None:
        catalog.find_aesthetic(request.aesthetic.embedding)
    checkpoint = _usable(catalog.find_checkpoint(request.checkpoint or preferences["sd_model_checkpoint"]))
    vae = _vae(request, checkpoint, catalog, preferences)
    size = _size(request, catalog.native_size(checkpoint), open_input)
    sampler, schedule_type = _sampler(request.sampler, request.schedule_type)
    request = _with_options(request, preferences)
    done = replace(
        request,
        prompt=_storable(request.prompt),
        negative_prompt=_storable(request.negative_prompt),
        each=tuple((_storable(a), _storable(b), _storable(c), _storable(d)) for a, b, c, d in request.each),
        checkpoint=checkpoint.name,
        checkpoint_hash=checkpoint.short_hash,
        vae=vae.name if vae else "None",
        vae_hash=vae.short_hash if vae else "",
        text_encoder=_stand_ins(request, catalog, preferences),
        prediction_type=_prediction_type(request, checkpoint, catalog),
        width=size[0],
        height=size[1],
        sampler=sampler,
        schedule_type=schedule_type,
        variation_seed=drawn_seed(request.variation_seed) if request.variation_strength else max(request.variation_seed, 0),
        init=_init(request.init, catalog) if request.init else None,
        hires=_hires(request, request.hires, catalog) if request.hires else None,
        refiner=_refiner(request.refiner, checkpoint, catalog) if request.refiner and request.refiner.checkpoint != NONE else None,
    )
    done.validate()
    for told in dict.fromkeys(done.with_words(number) for number in range(len(done.each) or 1)):
        _check_prompts(told)
        if told.hires is not None:
            _check_prompts(told.second_pass(), first_pass=_calls(told))
    return done


def complete_script(
    request: ScriptRequest,
    catalog: Catalog,
    preferences: Mapping[str, Any],
    open_input: Callable[[str], Image.Image],
    phrases: Phrases,
) -> ScriptRequest:
    """The script with each of its requests complete. Raises BadRequest, MissingModel, naming the one that cannot be carried out."""
    script = find_script(request.script)
    base = _with_options(request.base, preferences)  # so that an axis may change one of them
    plan = script.plan(base, request.arguments, lambda: drawn_seed(-1))
    opened = cache(open_input)  # all steps begin with the same picture
    steps = tuple(replace(step, request=_complete_step(step, base, catalog, preferences, opened, phrases)) for step in plan.steps)
    return replace(request, script=script.title).planned(replace(plan, steps=steps))


def _complete_step(
    step: Step,
    base: GenerationRequest,
    catalog: Catalog,
    preferences: Mapping[str, Any],
    open_input: Callable[[str], Image.Image],
    phrases: Phrases,
) -> GenerationRequest:
    """A step's request with nothing left open but its init image, where that is the picture of the step before."""
    request = step.request
    follows = request.init is not None and base.init is not None and request.init.image == PREVIOUS
    if follows:
        request = _with_image(request, base.init.image if base.init else "")
    try:
        done = complete(request, catalog, preferences, open_input, phrases)
    except BadRequest as error:
        raise type(error)(f"{step.name}: {error}") from None
    return _with_image(done, PREVIOUS) if follows else done


def _with_image(request: GenerationRequest, image: str) -> GenerationRequest:
    return replace(request, init=replace(request.init, image=image)) if request.init else request


def complete_xray(
    request: XrayRequest, complete_request: Callable[[GenerationRequest], GenerationRequest], input_path: Callable[[str], object]
) -> XrayRequest:
    """The study with a complete request, and the prompt at its other end as plain as the first. Raises BadRequest, MissingModel.

    input_path: raises MissingModel for a picture that nobody gave.
    """
    base, study = complete_request(request.base), request.study
    if isinstance(study, Interpolation) and study.prompt.strip():
        study = replace(study, prompt=complete_request(replace(base, prompt=study.prompt)).prompt)
    done = XrayRequest(base=base, study=study)
    done.validate()
    if isinstance(study, Noising):
        input_path(study.image)
    return done


def complete_weights(order: WeightsOrder, catalog: Catalog, preferences: Mapping[str, Any]) -> WeightsOrder:
    """The order with the catalog's names of its checkpoint and of what stands in for its text encoders. Raises BadRequest, MissingModel."""
    order.validate()
    if order.action == "unload":
        return order
    checkpoint = _usable(catalog.find_checkpoint(order.checkpoint))
    return replace(order, checkpoint=checkpoint.name, text_encoder=_stand_in(order, checkpoint, catalog, preferences))


Order = MergeRecipe | SaveOrder | TrainingRequest


def complete_order(order: Order, catalog: Catalog, preferences: Mapping[str, Any]) -> Order:
    """The order with the catalog's names for its checkpoints and its VAE. Raises BadRequest, MissingModel."""
    order.validate()
    if isinstance(order, TrainingRequest):
        if order.kind == "aesthetic":
            return order
        checkpoint = _usable(catalog.find_checkpoint(order.checkpoint))
        return replace(order, checkpoint=checkpoint.name, text_encoder=_stand_in(order, checkpoint, catalog, preferences))

    def vae(name: str) -> str:
        return name if name in ("", "None") else catalog.find_vae(name).name

    if isinstance(order, SaveOrder):
        checkpoint = _usable(catalog.find_checkpoint(order.checkpoint))
        predicts = _prediction_type(order, checkpoint, catalog)
        texts = _stand_in(order, checkpoint, catalog, preferences)
        return replace(order, checkpoint=checkpoint.name, vae=vae(order.vae), text_encoder=texts, prediction_type=predicts)
    slots = zip(("primary", "secondary", "tertiary"), order.checkpoints, strict=False)
    names: dict[str, Any] = {slot: _usable(catalog.find_checkpoint(name)).name for slot, name in slots}
    return replace(order, **names, bake_in_vae=vae(order.bake_in_vae))


def complete_extras(request: ExtrasRequest, catalog: Catalog, input_size: Callable[[str], tuple[int, int]]) -> ExtrasRequest:
    """The request with its upscalers as they are spelled. Raises BadRequest, MissingModel: of upscalers and of pictures."""
    upscaler = settled_upscaler(request.upscaler, catalog.find_upscaler)
    second = settled_upscaler(request.second_upscaler, catalog.find_upscaler)
    done = replace(request, upscaler=upscaler, second_upscaler=second)
    done.validate()
    for sha256 in done.images:
        done.check_size(input_size(sha256))
    return done


def _check_prompts(request: GenerationRequest, first_pass: int | None = None) -> None:
    """Tell now that a prompt nests too deeply, weighs too much, or changes too often for its length."""
    calls, options = _calls(request), request.guidance or GuidanceOptions()
    schedules = [part.schedule for part in parse_prompt(extract_networks(request.prompt)[0], calls, first_pass, options.old_timelines)]
    schedules.append(parse_schedule(request.negative_prompt, calls, first_pass, options.old_timelines))
    for text in {until.text for schedule in schedules for until in schedule}:
        pieces_of(text, options.emphasis)


def _calls(request: GenerationRequest) -> int:
    """Network calls of a full run."""
    return request.steps * SAMPLERS[request.sampler].calls_per_step


def _with_options(request: GenerationRequest, preferences: Mapping[str, Any]) -> GenerationRequest:
    """The preferred options of samplers and guidance where the request leaves them open."""
    if request.sampler_options is None:
        rng = str(preferences.get("randn_source", request.rng))
        request = replace(request, rng=rng, sampler_options=preferred_options(preferences))
    return replace(request, guidance=request.guidance or preferred_guidance(preferences))


def _check_networks(prompt: str, catalog: Catalog) -> None:
    """Tell now, not after minutes in the queue, that a network is missing or its tag is wrong."""
    for use in extract_networks(prompt)[1]:
        if use.kind == "lora":
            lora_strengths(use)
            catalog.find_lora(use.name)
        elif use.kind == "hypernet":
            hypernetwork_strength(use)
            catalog.find_hypernetwork(use.name)


def _hires(request: GenerationRequest, hires: HiresFix, catalog: Catalog) -> HiresFix:
    """Its checkpoint by name and hash; its sampler and schedule type where one of them is its own."""
    _check_networks(hires.prompt, catalog)
    checkpoint = _usable(catalog.find_checkpoint(hires.checkpoint)) if hires.checkpoint else None
    sampler, joined = find_second_sampler(hires.sampler)
    schedule_type = hires.schedule_type or joined
    if sampler or schedule_type:
        first = find_sampler(request.sampler, request.schedule_type)
        sampler, schedule_type = _sampler(sampler or first[0], schedule_type or first[1])
    return replace(
        hires,
        upscaler=settled_upscaler(hires.upscaler, catalog.find_upscaler, latent=True),
        prompt=_storable(hires.prompt),
        negative_prompt=_storable(hires.negative_prompt),
        checkpoint=checkpoint.name if checkpoint else "",
        checkpoint_hash=checkpoint.short_hash if checkpoint else "",
        prediction_type=_prediction_type(hires, checkpoint, catalog) if checkpoint else "",
        sampler=sampler,
        schedule_type=schedule_type,
    )


def _refiner(refiner: Refiner, first: ModelFile, catalog: Catalog) -> Refiner:
    """Its checkpoint by name and hash. Raises BadRequest, MissingModel, also where it cannot go on with the first one's latents."""
    refiner.validate()
    checkpoint = _usable(catalog.find_checkpoint(refiner.checkpoint))
    if checkpoint.family and first.family and checkpoint.family.is_sdxl != first.family.is_sdxl:
        raise BadRequest(
            f"{checkpoint.name} ({checkpoint.family.title}) cannot refine the latents of {first.name} ({first.family.title}): "
            "choose a refiner of the same family"
        )
    predicts = _prediction_type(refiner, checkpoint, catalog)
    return replace(refiner, checkpoint=checkpoint.name, checkpoint_hash=checkpoint.short_hash, prediction_type=predicts)


def _init(init: InitImage, catalog: Catalog) -> InitImage:
    """With the upscaler of SD upscale as it is spelled."""
    if init.upscale is None or init.upscale.upscaler in LATENT_UPSCALERS:
        return init
    return replace(init, upscale=replace(init.upscale, upscaler=settled_upscaler(init.upscale.upscaler, catalog.find_upscaler)))


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


def _stand_ins(request: GenerationRequest, catalog: Catalog, preferences: Mapping[str, Any]) -> str:
    """The files with the text encoders that the request's checkpoints lack."""
    found = [_stand_in(request, checkpoint, catalog, preferences) for checkpoint in _checkpoints(request, catalog, preferences)]
    return SEPARATOR.join(dict.fromkeys(filter(None, found)))


def told_text_encoders(request: GenerationRequest, catalog: Catalog, preferences: Mapping[str, Any]) -> str:
    """The text encoders of a request that an infotext told, without those that are not here and for which others are chosen. An infotext
    may come from anywhere; a request of ours names what it needs. Raises MissingModel, BadModelFile."""
    if not request.text_encoder:
        return ""
    checkpoints = _checkpoints(request, catalog, preferences)
    noted = [catalog.notes_on(each).text_encoder for each in checkpoints]
    return catalog.text_encoders.without_absent(checkpoints, request.text_encoder, noted, preferences)


def _checkpoints(request: GenerationRequest, catalog: Catalog, preferences: Mapping[str, Any]) -> list[ModelFile]:
    """The request's checkpoints, hires fix's and the refiner's among them."""
    parts = [part for part in (request.hires, request.refiner) if part is not None and part.checkpoint not in ("", NONE)]
    wanted = [request.checkpoint or preferences["sd_model_checkpoint"], *(part.checkpoint for part in parts)]
    return [catalog.find_checkpoint(name) for name in dict.fromkeys(wanted)]


def _stand_in(
    asked: GenerationRequest | SaveOrder | TrainingRequest | WeightsOrder,
    checkpoint: ModelFile,
    catalog: Catalog,
    preferences: Mapping[str, Any],
) -> str:
    """As core.text_encoders: what is asked for counts more than the checkpoint's card, and that more than the preferences."""
    return catalog.text_encoders.stand_ins(checkpoint, asked.text_encoder, catalog.notes_on(checkpoint).text_encoder, preferences)


def _sampler(sampler: str, schedule_type: str) -> tuple[str, str]:
    """(sampler, schedule type): the actual one where the sampler has one of its own, as A1111 writes it; "Automatic" for the rest."""
    sampler, schedule_type = find_sampler(sampler, schedule_type)
    own = SAMPLERS[sampler].default_schedule
    return sampler, own if schedule_type == "Automatic" and own != SamplerChoice.default_schedule else schedule_type


def _prediction_type(request: GenerationRequest | HiresFix | Refiner | SaveOrder, checkpoint: ModelFile, catalog: Catalog) -> str:
    """As asked, else as the checkpoint's card says, else as its file does."""
    return request.prediction_type or catalog.notes_on(checkpoint).prediction_type or "Automatic"


def _size(request: GenerationRequest, native: int, open_input: Callable[[str], Image.Image]) -> tuple[int, int]:
    """(width, height) in pixels: as asked, else that of the init image, else the checkpoint's native size."""
    if request.hires is not None and request.hires.image:
        width, height = open_input(request.hires.image).size
        return request.width or _rounded(width), request.height or _rounded(height)
    if request.init is None:
        return request.width or native, request.height or native
    if request.init.inpaint is not None:
        for mask in filter(None, (request.init.inpaint.mask, request.init.inpaint.latent_mask)):
            open_input(mask)  # a mask that is not there is told now, not by the worker
    width, height = open_input(request.init.image).size
    sides = request.init.outpaint
    if sides is not None:
        sides = sides.settled(width, height)
        return _extended(width + sides.left + sides.right, height + sides.top + sides.bottom)
    if request.init.upscale is not None:  # the size of the tiles
        return request.width or native, request.height or native
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
