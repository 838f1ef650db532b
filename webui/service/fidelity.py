"""How faithfully a picture's recipe can be carried out here: which of its models are here, by hash or by name, and what comes nearest."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from webui.core import infotext
from webui.core.catalog import HASHED_AT_ONCE, Catalog, ModelFile
from webui.core.errors import EaselError, MissingModel
from webui.core.foreign.translation import APPLIED, APPROXIMATED, MISSING, NOT_UNDERSTOOD, Note
from webui.core.image_metadata import RECIPE, FoundText
from webui.core.lora_hash import DIGITS
from webui.core.model_listing import KIND_TITLES, without_ending
from webui.core.model_orders import WeightsOrder
from webui.core.named_models import MOST_NAMED, NamedModel, named_models
from webui.core.recipe import read_recipe
from webui.core.request import GenerationRequest
from webui.core.text_encoders import names_in
from webui.service.completion import complete_weights
from webui.service.models import Models

TITLES = {**KIND_TITLES, "text_encoder": "text encoder", "upscaler": "upscaler"}
TAGS = {"lora": "lora", "hypernetwork": "hypernet"}  # kind -> word of its tag in a prompt
BY_HASH = ("checkpoint", "vae")  # are taken by their hash, whatever they are called here
UNLESS_NAMED = ("lora",)  # by their hash where there is none of that name
ALIKE = 0.4  # how alike names must be at least, 0 .. 1, to be offered
MODELS = (  # settings that name files, which have lines of their own
    *("Model", "Model hash", "Model file", "VAE", "VAE hash", infotext.TEXT_ENCODER, "Lora hashes", "TI hashes", "Hypernet", "Hashes"),
    *("Hires checkpoint", "Hires checkpoint file", "Hires upscaler", "Refiner", "Refiner file", "SD upscale upscaler"),
)
LONGEST = 60  # characters of a name that are compared
SETTINGS_TOLD = 40  # names of settings in one line


def report(found: FoundText, catalog: Catalog, models: Models) -> tuple[Note, ...]:
    """All that is known of how a picture's recipe fares here, with what its reader said; () where it has none."""
    told = infotext.read(found.text)
    if not told.params:
        return found.notes
    recipe = read_recipe(found.items.get(RECIPE, ""))
    named = named_models(told, recipe.files if recipe else None)
    known = {(each.kind, each.name) for each in named}
    named += [each for each in found.models if (each.kind, each.name) not in known]
    return (*_settings(told), *(note_on(each, catalog, models) for each in named[:MOST_NAMED]), *found.notes)


def note_on(wanted: NamedModel, catalog: Catalog, models: Models) -> Note:
    """What there is here of a model that a recipe names."""
    title = f"{TITLES[wanted.kind]} {wanted.name or wanted.digits}"
    here, twin = _by_name(wanted, catalog), _by_hash(wanted, catalog, models)
    digits = _digits(wanted.kind, here, catalog) if here else ""
    same = digits[: len(wanted.digits)] == wanted.digits[: len(digits)] if digits and wanted.digits else None
    if here and same:
        return Note(APPLIED, title, f"is here as {here.name}, the same file by its hash")
    if twin and (wanted.kind in BY_HASH or (not here and wanted.kind in UNLESS_NAMED)):
        return Note(APPLIED, title, f"is here as {twin}, the same file by its hash")
    if here and same is None:
        return Note(APPLIED, title, f"is here by its name, as {here.name}; there is no hash to compare")
    if here:
        return Note(
            APPROXIMATED,
            title,
            f"is another file here: its hash is {digits[:DIGITS]}, the picture's {wanted.digits[:DIGITS]}{_advice(wanted, twin)}",
        )
    if twin:
        return Note(MISSING, title, f"is not here under this name{_advice(wanted, twin)}")
    nearest = _nearest(wanted, catalog)
    return Note(
        MISSING, title, f"is not here; the nearest name here is {nearest}" if nearest else "is not here, nor anything of a like name"
    )


def other_text_encoders(told: str, checkpoint: str, catalog: Catalog, preferences: Mapping[str, Any]) -> list[str]:
    """A sentence for each text encoder that an infotext tells, that the checkpoint needs, and that is not the one that is chosen here."""
    order = WeightsOrder(action="reload", checkpoint=checkpoint)
    try:
        if not told or not catalog.text_encoders.lacking(catalog.find_checkpoint(checkpoint)):
            return []
        used = names_in(complete_weights(order, catalog, preferences).text_encoder)
    except EaselError as error:
        return [str(error)]
    here, known = ", ".join(used), {without_ending(name) for name in used}
    others = [name for name in names_in(told) if without_ending(name) not in known]
    if used:
        return [
            f"the picture was made with the text encoder {name}; {here} is used, as the checkpoint's card or the settings say"
            for name in others
        ]
    return [
        f"the picture was made with the text encoder {name}; put it into models/text_encoder/ and choose it in the settings"
        for name in others
    ]


def _settings(told: infotext.Infotext) -> list[Note]:
    """A line of all settings that were taken over, and one for each that was not."""
    problems = infotext.to_request(told, GenerationRequest())[1]
    wrong = {problem: _key_of(problem, told) for problem in problems}
    keys = dict.fromkeys(key.removesuffix("-1").removesuffix("-2") for key in told.params if key not in (*wrong.values(), *MODELS))
    applied = [Note(APPLIED, "settings", ", ".join(list(keys)[:SETTINGS_TOLD]))] if keys else []
    return applied + [Note(NOT_UNDERSTOOD, key[:60], problem) for problem, key in wrong.items()]


def _key_of(problem: str, told: infotext.Infotext) -> str:
    """The setting that a sentence is about, "text" where it does not begin with one."""
    keys = [key for key in told.params if problem.casefold().startswith(key.removesuffix("-1").casefold())]
    return max(keys, key=len, default="text")


def _by_name(wanted: NamedModel, catalog: Catalog) -> ModelFile | None:
    find = {
        "checkpoint": catalog.find_checkpoint,
        "vae": catalog.find_vae,
        "text_encoder": catalog.text_encoders.find,
        "lora": catalog.find_lora,
        "hypernetwork": catalog.find_hypernetwork,
        "embedding": catalog.find_embedding,
        "aesthetic": catalog.find_aesthetic,
        "upscaler": catalog.find_upscaler,
    }[wanted.kind]
    try:
        return find(wanted.name) if wanted.name.strip() else None
    except EaselError:
        return None


def _by_hash(wanted: NamedModel, catalog: Catalog, models: Models) -> str:
    """The name of the one file here with the model's hash, "" where there is none, or several."""
    if not wanted.digits:
        return ""
    if wanted.kind in BY_HASH:
        try:
            return (catalog.find_checkpoint if wanted.kind == "checkpoint" else catalog.find_vae)(wanted.digits[:64]).name
        except MissingModel:
            return ""
    if wanted.kind == "upscaler":
        found = [file.name for file in catalog.upscalers() if _digits("upscaler", file, catalog).startswith(wanted.digits)]
    else:
        found = models.with_hash(wanted.kind, wanted.digits[:DIGITS])
    return found[0] if len(found) == 1 else ""


def _digits(kind: str, file: ModelFile, catalog: Catalog) -> str:
    """The hash of a file as recipes have it, "" where it is not worked out and would take long."""
    try:
        if kind == "lora":
            return catalog.lora_hash(file)
        return (catalog.with_hash(file) if file.size <= HASHED_AT_ONCE else file).sha256 or ""
    except EaselError:
        return ""


def _advice(wanted: NamedModel, twin: str) -> str:
    if not twin:
        return ""
    plain = without_ending(twin)
    mention = f"<{TAGS[wanted.kind]}:{plain}:1>" if wanted.kind in TAGS else plain
    return f"; write {mention}, which is the picture's" if wanted.kind != "upscaler" else f"; choose {plain}, which is the picture's"


def _nearest(wanted: NamedModel, catalog: Catalog) -> str:
    """The file of the kind whose name is most like the model's; "" where none is at all."""
    files = {
        "checkpoint": catalog.checkpoints,
        "vae": catalog.vaes,
        "text_encoder": catalog.text_encoders.listed,
        "lora": catalog.loras,
        "hypernetwork": catalog.hypernetworks,
        "embedding": catalog.embeddings,
        "aesthetic": catalog.aesthetic_embeddings,
        "upscaler": catalog.upscalers,
    }[wanted.kind]()
    names = {name: file.name for file in files for name in (file.name.casefold(), file.stem.casefold())}
    close = get_close_matches(wanted.name.strip()[:LONGEST].casefold(), names, n=1, cutoff=ALIKE)
    return names[close[0]] if close else ""
