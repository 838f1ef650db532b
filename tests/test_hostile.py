"""The hostile corpus through everything that meets model files: nothing runs, nothing hangs, every file gets a sentence or is left out."""

import os
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.clock import at_most
from tests.hostile import make_code_beside, make_corpus, make_sidecars, overlooked_by_scanners, pickles, put_code_into, tensor_bombs
from tests.service.conftest import settings_for, until
from tests.tiny import CPU, tiny_parts
from webui.api.internal import internal_router
from webui.api.routes import sdapi_router
from webui.core.catalog import Catalog, sha256_of
from webui.core.errors import BadModelFile, MissingModel
from webui.core.lora_hash import lora_hash
from webui.core.model_details import read_details
from webui.core.model_listing import ENDINGS, folders_of, list_kind
from webui.core.settings import Settings
from webui.engine import converted, unpickle
from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.model_file import open_tensors, read_plain
from webui.service.service import Service, open_service

QUICK = 2.0  # seconds of one core that one file may take; reliability.md, promise 4
SOUND = ("HTML in names", "surrogates")  # LoRAs with odd names in them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def canary(folder: Path) -> Path:
    return folder / "canary"


@pytest.fixture(scope="module")
def settings(folder: Path, canary: Path) -> Settings:
    """The corpus as every kind of model, in files of three endings for LoRAs; hostile sidecars beside LoRAs."""
    settings = settings_for(folder)
    for kind in ENDINGS:
        make_corpus(folders_of(kind, settings)[0] / "corpus", canary)
    make_corpus(settings.lora_dirs[0] / "pt", canary, ".pt")
    make_corpus(settings.embeddings_dirs[0] / "pt", canary, ".pt")
    make_corpus(settings.hypernetwork_dirs[0] / "pt", canary, ".pt")
    secret = folder / "secret.json"
    secret.write_text('{"description": "the secret text"}')
    make_sidecars(settings.lora_dirs[0] / "sidecars", secret)
    return settings


@pytest.fixture(autouse=True)
def nothing_runs(canary: Path) -> Iterator[None]:
    """After every test."""
    yield
    assert not canary.exists()


def refusal(function: Callable[..., Any], *arguments: Any) -> str:
    """The sentence with which the function refuses, "" if it does not; any other error fails the test."""
    try:
        function(*arguments)
    except (BadModelFile, MissingModel) as error:
        return str(error) or "without a word"
    return ""


def test_the_pickles_are_live(tmp_path: Path) -> None:
    """Otherwise the corpus would prove nothing."""
    import pickle

    for name in ("os.system", "mkdir, protocol 2", "eval", "getattr", "Path.mkdir", *overlooked_by_scanners(tmp_path)):
        live = tmp_path / "live"
        with suppress(AttributeError), warnings.catch_warnings(action="ignore"):  # of what is left to do, and left open, after the call
            pickle.loads(pickles(live)[name])  # noqa: S301
        assert live.exists(), name
        live.rmdir() if live.is_dir() else live.unlink()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ENDINGS)
def test_every_file_is_listed_with_its_problem_or_left_out(settings: Settings, kind: str) -> None:
    models = [model for model in list_kind(kind, settings) if "corpus/" in model.name or "pt/" in model.name]
    assert len(models) > 80
    assert all(model.name.isprintable() for model in models)
    for model in models:
        with at_most(QUICK):
            details = read_details(kind, model)
        texts = (details.title, details.alias, details.description, details.triggers, details.base, details.problem, *sum(details.rows, ()))
        assert all(len(text) <= 20_000 for text in texts)
        "".join(texts).encode()  # no halves of surrogate pairs
        assert details.problem or kind == "vae" or model.stem in SOUND, model.name


def test_sidecars_say_nothing_that_is_not_bounded_and_nothing_from_outside(settings: Settings) -> None:
    models = {model.stem: model for model in list_kind("lora", settings) if model.name.startswith("sidecars/")}
    assert len(models) == 21
    for model in models.values():
        with at_most(QUICK):
            details = read_details("lora", model)
        assert details.problem == ""
        assert abs(details.weight) <= 10
        assert len(details.description) <= 20_000
        assert len(details.triggers) <= 2_000
        assert "secret" not in details.description
    assert [models[name].beside for name in ("linked", "pipe", "in a folder")] == [(), (), ()]
    assert any("no JSON.json is ignored" in warning for warning in read_details("lora", models["no JSON"]).warnings)


def test_every_file_is_found_or_missed_with_a_sentence(settings: Settings) -> None:
    catalog = Catalog(settings)
    for kind, find in (("checkpoint", catalog.find_checkpoint), ("vae", catalog.find_vae), ("lora", catalog.find_lora)):
        paths = sorted(folders_of(kind, settings)[0].rglob("*"))[::8]
        told = [refusal(find, text) for path in paths for text in (path.stem, f"corpus/{path.name}", f"../{path.name}")]
        assert len(told) > 30
        assert all("is not there" in sentence or "could be one of several" in sentence for sentence in told if sentence)


def test_hashing_every_file_ends(settings: Settings) -> None:
    told = []
    for path in sorted((settings.lora_dirs[0] / "corpus").iterdir()):
        with at_most(QUICK):
            told += [refusal(sha256_of, path), refusal(lora_hash, path)]
    assert any("not a file but a folder, pipe or device" in sentence for sentence in told)
    assert told.count("") > 150


@pytest.mark.parametrize("place", ["checkpoint corpus", "lora pt"])
def test_the_one_door_opens_no_file_of_the_corpus_by_running_it(settings: Settings, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the converting process, but here, since the corpus is large; tests/engine/test_converted.py has the process itself."""
    monkeypatch.setattr(converted, "_convert", lambda file, name, target: unpickle.convert(file, name, target))
    kind, folder = place.split()
    told = []
    for path in sorted((folders_of(kind, settings)[0] / folder).iterdir()):
        for read in (_read_all, lambda path: read_plain(path, 10**9)):  # a file is opened in one of these ways
            with at_most(QUICK):
                told.append(refusal(read, path))
    assert len(told) - told.count("") > 150
    assert "without a word" not in told


def test_the_tensor_bombs_are_live(tmp_path: Path) -> None:
    """Torch itself takes the first of them for 4 TB."""
    path = tmp_path / "x.pt"
    path.write_bytes(tensor_bombs()["4 TB out of 4 bytes"])
    assert torch.load(path, weights_only=True)["a"].nbytes == 4 * 10**12


@pytest.mark.parametrize("name", ["4 TB out of 4 bytes", "storage of 64 GB", "bomb of a pickle"])
def test_bombs_take_no_more_memory_than_their_own_size_asks_for(settings: Settings, name: str) -> None:
    """In the process that converts them, where one is started at all."""
    before = peaks()
    with pytest.raises(BadModelFile, match=name):
        _read_all(settings.lora_dirs[0] / "pt" / f"{name}.pt")
    own, childrens = peaks()
    assert own - before[0] < 3e9  # reliability.md, promise 5
    assert childrens < max(3e9, before[1] + 1)


def peaks() -> tuple[int, int]:
    """Bytes that this process, and the largest of those that it started and that have ended, had in memory at most."""
    own, children = (resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own, children


@pytest.mark.parametrize("as_folder", [False, True])
def test_code_beside_weights_is_never_run(as_folder: bool, tmp_path: Path, canary: Path) -> None:
    """The model is the same with and without it."""
    folder, parts = tmp_path / "models", tiny_parts("sd1", vocabulary=100)
    folder.mkdir()
    save_single_file(folder / "x.safetensors", **parts, dtype=torch.float32)
    clean = load_checkpoint(folder / "x.safetensors", torch.float32, CPU)
    make_code_beside(folder, canary)
    if as_folder:
        clean.pipeline.save_pretrained(folder / "x")
        put_code_into(folder / "x", canary)
        make_code_beside(folder / "x", canary)
    again = load_checkpoint(folder / ("x" if as_folder else "x.safetensors"), torch.float32, CPU)
    assert all(torch.equal(one, other) for one, other in zip(again.unet.parameters(), clean.unet.parameters(), strict=True))


def _read_all(path: Path) -> None:
    with open_tensors(path) as file:
        for key in file.shapes:
            file.read(key)


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[Service]:
    service = open_service(replace(settings), "tests.service.handlers:make")
    service.start()
    yield service
    service.stop()


@pytest.mark.timeout(240)
def test_the_server_lists_the_corpus_and_goes_on(service: Service, settings: Settings) -> None:
    app = FastAPI()
    app.include_router(internal_router(service))
    app.include_router(sdapi_router(service, settings))
    with TestClient(app) as client:
        until(lambda: not client.get("/internal/models?kind=lora").json()["scanning"])
        for kind in ENDINGS:
            page = client.get("/internal/models", params={"kind": kind, "count": 500}).json()
            assert page["total"] > 80
            for card in page["models"]:
                assert card["seen"]
                if card["thumbnail"]:
                    assert client.get(card["thumbnail"]).status_code in (200, 404)
        for route in ("loras", "embeddings", "hypernetworks", "sd-models", "sd-vae"):
            assert client.get(f"/sdapi/v1/{route}").status_code == 200
        with at_most(5):
            assert client.post("/internal/models/refresh").status_code == 200


@pytest.mark.parametrize(
    "name", ["../../secret", "..%2f..%2fsecret.json", "/etc/passwd", "corpus/../../../secret.json", "%00", "x" * 5000, "\u202e"]
)
def test_no_name_leads_out_of_the_folders(service: Service, name: str) -> None:
    app = FastAPI()
    app.include_router(internal_router(service))
    with TestClient(app) as client:
        for action in ("thumbnail", "details"):
            assert client.get(f"/internal/models/lora/{name}/{action}").status_code in (404, 422)
        for action, body in (("sidecar", {"notes": "x"}), ("thumbnail", {"picture": 1})):
            assert client.post(f"/internal/models/lora/{name}/{action}", json=body).status_code in (404, 422)
    assert not [path for path in settings_files(service.settings.data_dir) if path.endswith("secret.json.json")]


def settings_files(folder: Path) -> list[str]:
    return [os.path.join(here, name) for here, _, names in os.walk(folder) for name in names]
