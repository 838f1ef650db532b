"""The routes of the model cards and the lists of /sdapi/v1, on the real service of this folder's conftest."""

import base64
import io
import json
import shutil
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.api.conftest import PATIENCE, png, until
from tests.hostile import safetensors
from webui.api.internal import internal_router
from webui.api.routes import sdapi_router
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.service.service import Service

CHECKPOINT = safetensors(
    {
        "model.diffusion_model.input_blocks.0.0.weight": {"dtype": "U8", "shape": (8, 4, 3, 3), "data_offsets": [0, 288]},
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": {
            "dtype": "U8",
            "shape": (1, 768),
            "data_offsets": [288, 1056],
        },
    },
    bytes(1056),
)
NAME = "people/a #1 <b>?.safetensors"
QUOTED = "people/a%20%231%20%3Cb%3E%3F.safetensors"


def file(name: str, *shape: int, metadata: dict[str, str] | None = None) -> bytes:
    size = shape[0] * shape[1]
    tensors = {name: {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}
    return safetensors({"__metadata__": metadata or {}, **tensors}, bytes(size))


@pytest.fixture(scope="module")
def page(service: Service, settings: Settings) -> Iterator[TestClient]:
    """Two LoRAs, two embeddings and a hypernetwork."""
    files = {
        settings.lora_dirs[0] / NAME: file("x_attn2_to_k.lora_down.weight", 1, 768, metadata={"ss_output_name": "annie"}),
        settings.lora_dirs[0] / "plain.safetensors": file("x_attn2_to_k.lora_down.weight", 1, 2048),
        settings.embeddings_dirs[0] / "good.safetensors": file("emb_params", 2, 768, metadata={"step": "7"}),
        settings.embeddings_dirs[0] / "bad.pt": b"nothing",
        settings.hypernetwork_dirs[0] / "net.safetensors": file("768.0.linear.0.weight", 2, 2),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (settings.lora_dirs[0] / "people/a #1 <b>?.json").write_text(json.dumps({"preferred weight": 0.6, "description": "<i>x</i>"}))
    app = FastAPI()
    app.include_router(internal_router(service))
    app.include_router(sdapi_router(service, settings))
    with TestClient(app) as client:
        client.post("/internal/models/refresh")
        until(lambda: not client.get("/internal/models?kind=lora").json()["scanning"])
        yield client
    for folder in (settings.lora_dirs[0], settings.embeddings_dirs[0], settings.hypernetwork_dirs[0]):
        shutil.rmtree(folder)
    service.refresh_models()


def test_a_card_has_every_field_that_the_page_is_promised(page: TestClient) -> None:
    answer = page.get("/internal/models?kind=lora&sort=name&down=0&page=0&count=60").json()
    assert (answer["total"], answer["scanning"], len(answer["models"])) == (2, False, 2)
    card = answer["models"][0]
    names = "kind name title insert triggers negative weight family family_title size mtime hash thumbnail description notes base problem"
    assert set(card) == {*names.split(), "warnings", "seen", "vae", "text_encoder", "prediction_type", "native_size", "skipped"}
    assert (card["name"], card["title"], card["weight"], card["description"]) == (NAME, "a #1 <b>?", 0.6, "<i>x</i>")
    assert card["insert"] == ""  # < and > cannot stand in a prompt's tag
    assert answer["models"][1]["insert"] == "<lora:plain:1>"


def test_details_are_found_by_the_cards_name(page: TestClient) -> None:
    assert page.get(f"/internal/models/lora/{QUOTED}/details").json()["metadata"] == [["ss_output_name", "annie"]]
    assert page.get("/internal/models/lora/none/details").status_code == 404
    assert page.get("/internal/models/nothing/none/details").status_code == 422


def test_a_finished_picture_becomes_a_thumbnail(page: TestClient, service: Service) -> None:
    url = f"/internal/models/lora/{QUOTED}/thumbnail"
    assert page.get(url).status_code == 404
    reply = page.post("/sdapi/v1/txt2img", json={"steps": 2, "width": 64, "height": 64, "save_images": True})
    assert reply.status_code == 200, reply.text
    card = page.post(url, json={"picture": service.recent_pictures(1)[0].id}).json()
    assert card["thumbnail"].startswith(f"{url}?v=")
    shown = page.get(card["thumbnail"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert "immutable" in shown.headers["cache-control"]
    assert Image.open(io.BytesIO(shown.content)).size == (64, 64)
    for wrong in ({"picture": 10**9}, {"picture": -1}, {"picture": "x"}, {}):
        assert page.post(url, json=wrong).status_code in (404, 422)


def test_the_sidecar_is_edited(page: TestClient, settings: Settings) -> None:
    url = "/internal/models/lora/plain.safetensors/sidecar"
    card = page.post(url, json={"triggers": "a, b", "weight": 0.5, "negative": "n", "notes": "", "description": "d"}).json()
    assert (card["insert"], card["triggers"], card["negative"]) == ("<lora:plain:0.5>", "a, b", "n")
    assert json.loads((settings.lora_dirs[0] / "plain.json").read_text())["preferred weight"] == 0.5
    answer = page.post(url, json={"weight": "much"})
    assert (answer.status_code, "number from -10 to 10" in answer.json()["detail"]) == (422, True)


def test_prompts_are_completed(page: TestClient) -> None:
    found = page.get("/internal/complete", params={"text": "<lora:pla"}).json()["models"]
    assert [(each["kind"], each["insert"].split(":")[1]) for each in found] == [("lora", "plain")]
    assert [each["insert"] for each in page.get("/internal/complete?text=goo").json()["models"]] == ["good"]
    assert page.get("/internal/complete", params={"text": "\ud800".encode("utf-8", "replace")}).status_code == 200


def test_the_lists_of_sdapi(page: TestClient, settings: Settings) -> None:
    loras = page.get("/sdapi/v1/loras").json()
    assert loras[0] == {
        "name": "a #1 <b>?",
        "alias": "annie",
        "path": str(settings.lora_dirs[0] / NAME),
        "metadata": {"ss_output_name": "annie"},
    }
    embeddings = page.get("/sdapi/v1/embeddings").json()
    assert embeddings["loaded"] == {"good": {"step": 7, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": 768, "vectors": 2}}
    assert "bad.pt" in embeddings["skipped"]["bad"]["reason"]
    path = settings.hypernetwork_dirs[0] / "net.safetensors"
    assert page.get("/sdapi/v1/hypernetworks").json() == [{"name": "net", "path": str(path)}]


def test_new_files_are_there_after_a_refresh(page: TestClient, settings: Settings) -> None:
    new = settings.lora_dirs[0] / "zz.safetensors"
    for kind in ("loras", "embeddings", "vae", "checkpoints"):
        new.write_bytes(file("x_attn2_to_k.lora_down.weight", 1, 768))
        assert page.post(f"/sdapi/v1/refresh-{kind}").json() is None
        assert page.get("/sdapi/v1/loras").json()[-1]["name"] == "zz"
        new.unlink()
        page.post("/sdapi/v1/refresh-loras")


def test_pictures_of_the_page_are_needed_not_sent(page: TestClient) -> None:
    """A thumbnail is named by its id: bytes from outside are refused."""
    data = base64.b64decode(png())
    assert page.post("/internal/models/lora/plain.safetensors/thumbnail", content=data).status_code == 422


@pytest.mark.parametrize(
    ("route", "body", "status", "message"),
    [
        ("merge", {"recipe": {"primary": "alpha", "secondary": "nothing"}}, 404, "nothing"),
        ("merge", {"recipe": {"primary": "alpha"}}, 422, "needs a checkpoint B"),
        ("merge", {"recipe": {"primary": "alpha", "secondary": "beta", "multiplier": "much"}}, 422, "multiplier"),
        ("merge", {}, 422, "recipe"),
        ("save", {"order": {"checkpoint": "alpha", "name": "../x"}}, 422, "cannot be the name of a file"),
        ("save", {"order": {"checkpoint": "alpha"}}, 422, "name"),
    ],
)
def test_orders_that_cannot_be_carried_out_are_refused(
    page: TestClient, route: str, body: dict[str, object], status: int, message: str
) -> None:
    answer = page.post(f"/internal/models/{route}", json=body)
    assert answer.status_code == status
    assert message in answer.text


def test_an_order_is_a_job_of_its_client(page: TestClient, service: Service) -> None:
    recipe = {"primary": "alpha", "secondary": "beta", "multiplier": 0.5}
    job = page.post("/internal/models/merge", json={"recipe": recipe, "client": "me"}).json()["job"]
    assert page.get(f"/internal/jobs/{job}?client=you").status_code == 403
    service.wait(job, PATIENCE)
    told = page.get(f"/internal/jobs/{job}?client=me").json()
    assert (told["status"], told["error"]) == ("failed", "this worker cannot run a MergeRecipe")


def test_networks_of_another_family_than_the_checkpoints_say_so(page: TestClient, settings: Settings, service: Service) -> None:
    path = settings.checkpoint_dirs[0] / "sd1.safetensors"
    path.write_bytes(CHECKPOINT)
    try:
        service.refresh_models()
        models = page.get("/internal/models?kind=lora&checkpoint=sd1.safetensors").json()["models"]
        assert [card["skipped"] for card in models] == ["", "made for Stable Diffusion XL, the checkpoint is Stable Diffusion 1.x"]
        assert {card["skipped"] for card in page.get("/internal/models?kind=lora&checkpoint=gone").json()["models"]} == {""}
    finally:
        path.unlink()
        service.refresh_models()


def test_what_a_checkpoints_card_remembers_is_used_and_can_be_unsaid(page: TestClient, service: Service) -> None:
    url = "/internal/models/checkpoint/alpha.ckpt/sidecar"
    changes = {"prediction_type": "v_prediction", "native_size": "768", "vae": "gamma.pt"}
    card = page.post(url, json=changes).json()
    assert (card["prediction_type"], card["native_size"], card["vae"]) == ("v_prediction", 768, "gamma.pt")
    request = service.complete(GenerationRequest(checkpoint="alpha"))
    assert (request.prediction_type, request.width, request.height, request.vae) == ("v_prediction", 768, 768, "gamma.pt")
    assert service.complete(GenerationRequest(checkpoint="alpha", prediction_type="epsilon")).prediction_type == "epsilon"
    for bad in ({"prediction_type": "x0"}, {"native_size": "big"}, {"native_size": 100}, {"native_size": -8}):
        assert page.post(url, json=bad).status_code == 422, bad
    page.post(url, json={"prediction_type": "", "native_size": "0", "vae": ""})
    request = service.complete(GenerationRequest(checkpoint="alpha"))
    assert (request.prediction_type, request.width, request.vae) == ("Automatic", 512, "None")
