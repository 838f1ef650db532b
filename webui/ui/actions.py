"""What the page asks of the service: queue a job, fill a tab from an infotext, pick sizes, restore a draft. No layout here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from webui.core import image_metadata, infotext
from webui.core.catalog import USUAL_SIZE, ModelFile
from webui.core.errors import BadRequest, EaselError, MissingModel
from webui.core.foreign.translation import APPLIED
from webui.core.hires import SAME_CHECKPOINT
from webui.core.local_loras import with_local_loras
from webui.core.named_models import named_models
from webui.core.request import MAX_SIDE, GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.upscalers import settled_upscaler
from webui.core.xray import Recording, XrayRequest
from webui.service.fidelity import note_on, other_text_encoders
from webui.service.model_rows import MENTIONED
from webui.service.service import Service
from webui.ui import queue, scripts
from webui.ui.extras import upscaler_choices
from webui.ui.fields import FIELDS, GUIDANCE, NO_AESTHETIC, NO_REFINER, QUICK, SAMPLING, TABS, collect, spread
from webui.ui.scripts import chosen_script, filled

SOME_PICTURE = "shown"  # stands for a picture or a mask where only the settings beside it matter
NO_SCRIPT: Mapping[str, Any] = {}
SECOND_CHECKPOINTS = {"hires.checkpoint": SAME_CHECKPOINT, "refiner.checkpoint": NO_REFINER}  # field -> what it shows where there is none
UPSCALING = {"hires.upscaler": True, "init.upscale.upscaler": False}  # fields that name an upscaler -> whether it may be one of latents
MOST_TOLD = 5  # problems of one infotext that are shown


def generate(service: Service, tab: str, sent: Any, values: Mapping[str, Any], script: Mapping[str, Any] = NO_SCRIPT) -> list[str]:
    """Queue what tab `tab` shows; returns what is wrong with it, or not done as ordered, [] if nothing.

    sent: what the page adds to the widgets: client, image and mask by hash, whether it inpaints; of a batch the images, and whether
    each brings its own prompts; `edits`: the waiting job that is to get this request, instead of a new one; `overrides`.
    script: the widgets of the scripts.
    """
    page = sent if isinstance(sent, dict) else {}
    try:
        if page.get("problem"):
            raise BadRequest(str(page["problem"]))
        image, mask = str(page.get("image", "")), str(page.get("mask", ""))
        if tab != "txt2img" and not image:
            raise BadRequest("there is no picture to start from yet: drop one on the canvas, or send one here from another tab")
        if page.get("edits") and page.get("inpaint") and not mask:
            mask = queue.mask_of(service, page)
        if page.get("inpaint") and not mask:
            raise BadRequest("nothing is painted yet: paint over what shall change, or switch from Inpaint to img2img")
        shown = {**values, **overridden(page)}
        requests = [collect(shown, image=str(each), mask=mask) for each in page.get("images") or [image]]
        if page.get("own"):
            requests = [_with_own_prompts(service, request) for request in requests]
        title, arguments = chosen_script(script)
        if page.get("edits"):
            queue.put_back(service, str(page.get("client", "")), str(page["edits"]), requests[0])
            return []
        for request in requests:
            service.submit(_asked(request, title, arguments, page.get("record")), owner=str(page.get("client", "")))
    except EaselError as error:
        return [str(error)]
    return ["the X-ray does not record scripts: this job is made without"] if title and page.get("record") is not None else []


def _asked(request: GenerationRequest, script: str, arguments: Any, record: Any) -> GenerationRequest | ScriptRequest | XrayRequest:
    """What is queued: the request, in the hands of a script, or looked at while it is made. record: whether with attention; else None."""
    if script:
        return ScriptRequest(base=request, script=script, arguments=arguments)
    return request if record is None else XrayRequest(base=request, study=Recording(attention=bool(record), first=True))


def overridden(page: Mapping[str, Any]) -> dict[str, Any]:
    """What the tab has in place of the top row, by field: the chips that the page shows."""
    told = page.get("overrides")
    return {name: str(told[name]) for name in QUICK if name in told} if isinstance(told, dict) else {}


def _with_own_prompts(service: Service, request: GenerationRequest) -> GenerationRequest:
    """The request with the prompts that its picture carries; those of the page for one that carries none."""
    assert request.init is not None
    told = infotext.read(image_metadata.read_infotext(service.input_path(request.init.image).read_bytes()).text)
    if not told.params:
        return request
    made, _ = infotext.to_request(told, GenerationRequest())
    texts = {name: getattr(made, name) for name in ("prompt", "negative_prompt", "template", "negative_template")}
    return replace(request, **texts)


def upscale(service: Service, sent: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Queue hires fix's second pass over a finished picture, with what the tab shows and the picture's seeds; returns what is wrong.

    sent: client, the picture's infotext (text), its hash in the input store (image), its size, and `overrides`.
    """
    try:
        shown = collect({**values, **overridden(sent), "hires.enabled": True})
        made, _ = infotext.to_request(infotext.read(str(sent.get("text", ""))), shown)
        assert shown.hires is not None
        request = replace(
            shown,
            seed=made.seed,
            variation_seed=made.variation_seed,
            variation_strength=made.variation_strength,
            width=int(sent["width"]) // 8 * 8,
            height=int(sent["height"]) // 8 * 8,
            batch_size=1,
            batch_count=1,
            hires=replace(shown.hires, image=str(sent["image"])),
        )
        service.submit(request, owner=str(sent.get("client", "")))
    except EaselError as error:
        return [str(error)]
    return []


def fill(
    service: Service, tab: str, text: str, values: Mapping[str, Any], without: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """New widget values (field name -> value) after reading infotext `text` over what the tab shows, and what could not be used.

    without: rows of PNG info's table that shall not count; what they tell stays as the tab shows it.
    """
    if not text.strip():
        return {}, ["there are no generation parameters in it, so nothing was changed"]
    text, renamed = with_local_loras(text, service.catalog.find_lora, service.models.with_hash)
    told = infotext.read(text)
    request, problems = infotext.to_request(told, _shown(values))
    problems += renamed
    names = tuple(name for name in (*TABS[tab], *QUICK) if name in values)
    updates = spread(request, names)
    if without:
        others, _ = infotext.to_request(_less(told, without), _shown(values))
        kept = spread(others, names)
        updates = {name: value for name, value in updates.items() if kept.get(name) == value and name not in _prompts_of(without)}
    if tab == "outpaint" and not _tells_outpaint(told):  # the strength of another kind of job says nothing here
        updates.pop("init.denoising_strength", None)
    problems += _settle_models(service, request, updates, values)
    checkpoint = str(updates.get("checkpoint", values["checkpoint"]))
    problems += other_text_encoders(request.text_encoder, checkpoint, service.catalog, service.preferences())
    problems += _settle_hires(service, request, updates)
    problems += _settle_refiner(service, request, updates)
    problems += _settle_upscalers(service, updates)
    problems += _other_networks(service, told)
    drawn = updates.get("aesthetic.embedding", NO_AESTHETIC)
    if drawn not in aesthetic_choices(service):
        updates["aesthetic.embedding"] = NO_AESTHETIC
        problems.append(f"the aesthetic embedding {drawn} is not here, so it was left out; it belongs into models/aesthetic_embeddings")
    return {name: value for name, value in updates.items() if value != values[name]}, problems[:MOST_TOLD]


def _less(told: infotext.Infotext, without: Collection[str]) -> infotext.Infotext:
    """The infotext less these rows; the row Size stands for both of its halves."""
    gone = {*without, *(("Size-1", "Size-2") if "Size" in without else ())}
    return replace(told, params={key: value for key, value in told.params.items() if key not in gone})


def _prompts_of(rows: Collection[str]) -> set[str]:
    return {field for row, field in (("Prompt", "prompt"), ("Negative prompt", "negative_prompt")) if row in rows}


def fill_script(tab: str, text: str) -> dict[str, Any]:
    """New values of the scripts' widgets after reading infotext `text`: those of the sheet that it belongs to, {} for other pictures."""
    return filled(infotext.read(text), tab)


def _tells_outpaint(told: infotext.Infotext) -> bool:
    init = infotext.to_request(told, GenerationRequest())[0].init
    return init is not None and init.outpaint is not None


def _shown(values: Mapping[str, Any]) -> GenerationRequest:
    """The request that the widgets show; widgets with unreadable values count as left alone."""
    readable = dict(values)
    for name in values:
        try:
            FIELDS[name].read(values[name])
        except BadRequest:
            readable[name] = FIELDS[name].default
    return collect(readable, image=SOME_PICTURE, mask=SOME_PICTURE if "init.inpaint.padding" in values else "")


def _settle_models(service: Service, request: GenerationRequest, updates: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Replace model names of an infotext by names that are here; models that are missing leave the widget alone. Says which."""
    problems = []
    for name, digits, find in (
        ("checkpoint", request.checkpoint_hash, service.catalog.find_checkpoint),
        ("vae", request.vae_hash, service.catalog.find_vae),
    ):
        wanted = updates.pop(name, None)
        if not wanted or wanted == values[name] or ((wanted, values[name]) == ("None", "Automatic") and _brings_no_vae(service, request)):
            continue
        try:
            updates[name] = wanted if wanted in ("Automatic", "None") else _first_found(find, digits, wanted).name
        except MissingModel as error:
            problems.append(f"{error}; kept {values[name]}")
    return problems


def _settle_hires(service: Service, request: GenerationRequest, updates: dict[str, Any]) -> list[str]:
    """As `_settle_models`, for the checkpoint of hires fix."""
    if request.hires is None or not request.hires.checkpoint or "hires.checkpoint" not in updates:
        return []
    try:
        found = _first_found(service.catalog.find_checkpoint, request.hires.checkpoint_hash, request.hires.checkpoint)
    except MissingModel as error:
        updates["hires.checkpoint"] = SAME_CHECKPOINT
        return [f"{error}; hires fix keeps the checkpoint of the first pass"]
    updates["hires.checkpoint"] = found.name
    return []


def _settle_refiner(service: Service, request: GenerationRequest, updates: dict[str, Any]) -> list[str]:
    """As `_settle_models`, for the refiner; it is switched off where its checkpoint is not here."""
    if request.refiner is None or "refiner.checkpoint" not in updates:
        return []
    try:
        found = _first_found(service.catalog.find_checkpoint, request.refiner.checkpoint_hash, request.refiner.checkpoint)
    except MissingModel as error:
        updates |= {"refiner.enabled": False, "refiner.checkpoint": NO_REFINER}
        return [f"{error}; the refiner is switched off"]
    updates["refiner.checkpoint"] = found.name
    return []


def _settle_upscalers(service: Service, updates: dict[str, Any]) -> list[str]:
    """As `_settle_models`, for the upscalers of hires fix and of SD upscale."""
    problems = []
    for name, latent in UPSCALING.items():
        if name in updates:
            try:
                updates[name] = settled_upscaler(updates[name], service.catalog.find_upscaler, latent)
            except MissingModel as error:
                updates[name] = FIELDS[name].default
                problems.append(f"{error}; took {FIELDS[name].default}")
    return problems


def _other_networks(service: Service, told: infotext.Infotext) -> list[str]:
    """A sentence for each LoRA, hypernetwork and embedding of an infotext that is not here, or is another file than the picture's."""
    named = [each for each in named_models(told) if each.kind in MENTIONED]
    notes = [note_on(each, service.catalog, service.models) for each in named]
    return [f"{note.name} {note.sentence}" for note in notes if note.kind != APPLIED]


def _brings_no_vae(service: Service, request: GenerationRequest) -> bool:
    """Whether VAE "Automatic" means the checkpoint's own, so that it needs no change to "None"."""
    try:
        checkpoint = _first_found(service.catalog.find_checkpoint, request.checkpoint_hash, request.checkpoint)
    except MissingModel:
        return False
    return service.preferences()["sd_vae"] in ("Automatic", "None") and service.catalog.vae_for(checkpoint) is None


def _first_found(find: Callable[[str], ModelFile], digits: str, name: str) -> ModelFile:
    """By hash if that is known here, else by name. Raises MissingModel."""
    try:
        return find(digits or name)
    except MissingModel:
        return find(name)


def checkpoint_choices(service: Service) -> list[tuple[str, str]]:
    return [(file.title, file.name) for file in service.catalog.checkpoints()]


def vae_choices(service: Service) -> list[str]:
    return ["Automatic", "None", *(file.name for file in service.catalog.vaes())]


def aesthetic_choices(service: Service) -> list[str]:
    return [NO_AESTHETIC, *(file.stem for file in service.catalog.aesthetic_embeddings())]


def native_size(service: Service, checkpoint: str) -> int:
    """Pixels of the side for which `checkpoint` is; 512 where it is not known."""
    try:
        return service.catalog.native_size(service.catalog.find_checkpoint(checkpoint))
    except EaselError:
        return USUAL_SIZE


def sizes_after(service: Service, checkpoint: str, width: Any, height: Any) -> tuple[int, int]:
    """Width and height after a change of checkpoint: its native size, unless the user has chosen something of their own."""
    natives = {service.catalog.native_size(file) for file in service.catalog.checkpoints()} | {USUAL_SIZE}
    if width == height and width in natives:
        side = native_size(service, checkpoint)
        return side, side
    return width, height


def sizes_like(service: Service, checkpoint: str, width: int, height: int) -> tuple[int, int]:
    """Sides of the same shape as a picture of width x height, with about as many pixels as the checkpoint's native size at most."""
    side = native_size(service, checkpoint)
    scale = min(1.0, side / (width * height) ** 0.5) if width * height > (1.1 * side) ** 2 else 1.0
    return _side(width * scale), _side(height * scale)


def _side(pixels: float) -> int:
    return min(max(round(pixels / 8) * 8, 64), MAX_SIDE)


def start_values(service: Service, drafts: Any) -> dict[str, dict[str, Any]]:
    """What every widget shows when the page opens: tab ("quick" for the top row) -> field name -> value or update.

    `drafts`: what the browser kept of the last visit, in the same form; anything in it may be out of date, so it is checked.
    """
    kept = drafts if isinstance(drafts, dict) else {}
    preferred = _preferred(service)
    checkpoints, vaes = checkpoint_choices(service), vae_choices(service)
    quick = {"checkpoint": preferred.checkpoint, "vae": "Automatic", "clip_skip": preferred.clip_skip} | _still_good("quick", kept)
    names = [name for _, name in checkpoints]
    if quick["checkpoint"] not in names:
        quick["checkpoint"] = _first(preferred, names)
    if quick["vae"] not in vaes:
        quick["vae"] = "Automatic"
    side = native_size(service, quick["checkpoint"])
    drawn = aesthetic_choices(service)
    styles = [style.name for style in service.phrases.styles()]
    start = {"quick": dict(quick)}
    start["quick"]["checkpoint"] = gr.Dropdown(choices=checkpoints, value=quick["checkpoint"])
    start["quick"]["vae"] = gr.Dropdown(choices=vaes, value=quick["vae"])
    for tab, fields in TABS.items():
        native = {"width": side, "height": side} if "width" in fields else {}
        start[tab] = native | spread(preferred, (*SAMPLING, *GUIDANCE)) | _still_good(tab, kept)
        start[tab]["styles"] = styles_widget(styles, start[tab].get("styles"))
        for name, latent in UPSCALING.items():
            if name in fields:
                names_here = upscaler_choices(service, latent)
                chosen = start[tab].get(name, FIELDS[name].default)
                start[tab][name] = gr.Dropdown(choices=names_here, value=chosen if chosen in names_here else FIELDS[name].default)
        for field, without in SECOND_CHECKPOINTS.items():
            if field in fields:
                chosen = start[tab].get(field, without)
                start[tab][field] = gr.Dropdown(choices=[(without, without), *checkpoints], value=chosen if chosen in names else without)
        start[f"{tab}_script"] = scripts.start_values(tab, kept.get(f"{tab}_script"), upscaler_choices(service))
        if "aesthetic.embedding" in fields:
            chosen = start[tab].get("aesthetic.embedding", NO_AESTHETIC)
            start[tab]["aesthetic.embedding"] = gr.Dropdown(choices=drawn, value=chosen if chosen in drawn else NO_AESTHETIC)
    return start


def kept_values(service: Service, tab: str, drafts: Any) -> dict[str, Any]:
    """What a tab and the top row show when the page opens: field name -> value or update; `drafts` as for `start_values`."""
    start = start_values(service, drafts)
    return {name: FIELDS[name].default for name in TABS[tab]} | start["quick"] | start[tab]


def styles_widget(names: list[str], kept: Any) -> gr.Dropdown:
    """The widget of the styles: those that are there, and those of a draft that still are."""
    chosen = [name for name in kept if name in names] if isinstance(kept, list) else []
    return gr.Dropdown(choices=names, value=chosen, multiselect=True)


def first_checkpoint(service: Service) -> str:
    """The name of the one that is chosen on a first visit, "" where there is none."""
    return _first(_preferred(service), [file.name for file in service.catalog.checkpoints()])


def _first(preferred: GenerationRequest, names: list[str]) -> str:
    return preferred.checkpoint if preferred.checkpoint in names else (names or [""])[0]


def _preferred(service: Service) -> GenerationRequest:
    try:
        return service.complete(GenerationRequest())
    except EaselError:  # no usable checkpoint at all: the page opens all the same, and Generate says what to do
        return GenerationRequest()


def _still_good(tab: str, drafts: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a draft that their fields can still take."""
    draft = drafts.get(tab)
    good = {}
    for name, value in (draft if isinstance(draft, dict) else {}).items():
        if name not in (TABS[tab] if tab != "quick" else QUICK):
            continue
        entry = FIELDS[name]
        choices = entry.options.get("choices")
        try:
            entry.read(value)
        except BadRequest:
            continue
        if tab == "quick" or name in ("aesthetic.embedding", *SECOND_CHECKPOINTS, *UPSCALING) or not choices or value in choices:
            good[name] = value
    return good
