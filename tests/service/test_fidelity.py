"""What is told of the models that a recipe names: each kind of file, here, renamed, another, and missing."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.service.conftest import until
from webui.core.foreign.translation import APPLIED, APPROXIMATED, MISSING, NOT_UNDERSTOOD, Note
from webui.core.image_metadata import RECIPE, FoundText
from webui.core.lora_hash import lora_hash
from webui.core.named_models import NamedModel
from webui.core.recipe import Recipe
from webui.core.request import GenerationRequest
from webui.core.settings import parse_flags
from webui.service.fidelity import note_on, report
from webui.service.model_rows import CardSearch
from webui.service.service import Service, open_service

FOLDERS = {
    "checkpoint": "models/Stable-diffusion",
    "vae": "models/VAE",
    "lora": "loras",
    "hypernetwork": "models/hypernetworks",
    "embedding": "embeddings",
    "upscaler": "models/upscalers",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fidelity")
    for number, (kind, place) in enumerate(FOLDERS.items()):
        (folder / place).mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.full((4, 4), float(number))}, folder / place / f"{kind}-of-mine.safetensors")
    made = open_service(parse_flags(["--data-dir", str(folder)], {}), "webui.build:make_handlers")
    made.models.start()
    until(lambda: all(made.models.search(CardSearch(kind)).cards for kind in ("lora", "embedding", "hypernetwork")))
    for kind in ("lora", "embedding", "hypernetwork"):  # what the service's hashing does in the background
        for file, _ in made.models.files(kind):
            (made.catalog.lora_hash if kind == "lora" else made.catalog.with_hash)(file)
    yield made
    made.stop()


def path_of(service: Service, kind: str) -> Path:
    return service.settings.data_dir / FOLDERS[kind] / f"{kind}-of-mine.safetensors"


def digits_of(service: Service, kind: str) -> str:
    path = path_of(service, kind)
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"lora": lora_hash(path), "embedding": whole[:12], "upscaler": whole}.get(kind, whole[:10])


def told(service: Service, kind: str, name: str, digits: str) -> Note:
    return note_on(NamedModel(kind, name, digits), service.catalog, service.models)


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_file_of_that_name_and_hash_is_applied(service: Service, kind: str) -> None:
    note = told(service, kind, f"{kind}-of-mine", digits_of(service, kind))
    assert (note.kind, "the same file by its hash" in note.sentence) == (APPLIED, True)


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_file_without_a_hash_to_compare_is_applied_by_its_name(service: Service, kind: str) -> None:
    note = told(service, kind, f"{kind}-of-mine", "")
    assert (note.kind, "no hash to compare" in note.sentence) == (APPLIED, True)


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_file_that_has_another_name_here_is_found_by_its_hash(service: Service, kind: str) -> None:
    note = told(service, kind, "zzz", digits_of(service, kind))
    assert note.kind == (APPLIED if kind in ("checkpoint", "vae", "lora") else MISSING)  # other mentions go by the name
    assert f"{kind}-of-mine" in note.sentence


@pytest.mark.parametrize("kind", FOLDERS)
def test_another_file_of_that_name_is_an_approximation(service: Service, kind: str) -> None:
    note = told(service, kind, f"{kind}-of-mine", "0123456789")
    assert note.kind == APPROXIMATED
    assert digits_of(service, kind)[:10] in note.sentence
    assert "0123456789" in note.sentence


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_is_missing_is_told_with_the_nearest_name_that_is_here(service: Service, kind: str) -> None:
    note = told(service, kind, f"{kind}-of-yours", "0123456789")
    assert (note.kind, note.sentence) == (MISSING, f"is not here; the nearest name here is {kind}-of-mine.safetensors")
    assert told(service, kind, "§§§", "").sentence == "is not here, nor anything of a like name"


def test_the_report_tells_of_settings_models_and_what_the_reader_said(service: Service) -> None:
    text = "a <lora:lora-of-mine:1> fox\nSteps: 20, Sampler: Warp, Seed: 1, Size: 64x64, Model: nowhere, Odd: 1"
    reader = Note(NOT_UNDERSTOOD, "workflow", "was passed over")
    notes = report(FoundText(text, source="ComfyUI", notes=(reader,)), service.catalog, service.models)
    assert notes[0] == Note(APPLIED, "settings", "Steps, Seed, Size")
    kinds = [(note.kind, note.name) for note in notes[1:]]
    assert (NOT_UNDERSTOOD, "Odd") in kinds
    assert (MISSING, "checkpoint nowhere") in kinds
    assert (APPLIED, "LoRA lora-of-mine") in kinds
    assert notes[-1] == reader
    assert any("Warp" in note.sentence for note in notes if (note.kind, note.name) == (NOT_UNDERSTOOD, "Sampler"))


def test_models_that_a_reader_names_beside_the_text_are_reported_once(service: Service) -> None:
    models = (NamedModel("checkpoint", "checkpoint-of-yours"), NamedModel("lora", "lora-of-mine"))
    found = FoundText("a <lora:lora-of-mine:1>\nSteps: 20, Seed: 1, Size: 64x64", models=models)
    told = [(note.kind, note.name) for note in report(found, service.catalog, service.models)]
    assert told == [(APPLIED, "settings"), (APPLIED, "LoRA lora-of-mine"), (MISSING, "checkpoint checkpoint-of-yours")]


def test_a_recipe_beside_the_text_finds_an_upscaler_by_its_hash(service: Service) -> None:
    text = "x\nSteps: 2, Seed: 1, Size: 64x64, Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: old name"
    recipe = Recipe(GenerationRequest(), {"upscaler old name": digits_of(service, "upscaler")})
    notes = report(FoundText(text, {RECIPE: json.dumps(recipe.to_json())}), service.catalog, service.models)
    (note,) = [note for note in notes if note.name == "upscaler old name"]
    assert note == Note(MISSING, "upscaler old name", "is not here under this name; choose upscaler-of-mine, which is the picture's")


def test_text_without_settings_has_no_report(service: Service) -> None:
    assert report(FoundText("just words"), service.catalog, service.models) == ()
