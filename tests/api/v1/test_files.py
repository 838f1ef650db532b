"""webui/api/v1/files.py: pictures, inputs, models and replays by id or hash."""

import base64
import io

import httpx
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.api.conftest import png, until
from tests.api.v1.conftest import data_folder, ended, submit
from webui.service.service import Service


def picture_of(http: httpx.Client, **fields: object) -> int:
    job = ended(http, submit(http, **fields))
    return int(job["pictures"][0]["id"])  # type: ignore[index]


def test_a_picture_is_fetched_by_id_with_its_infotext_inside(http: httpx.Client) -> None:
    picture = picture_of(http, prompt="a cat", seed=12)
    told = http.get(f"/pictures/{picture}").json()
    file = http.get(f"/pictures/{picture}/file")
    assert (told["seed"], told["width"], told["file"]) == (12, 64, f"/api/v1/pictures/{picture}/file")
    assert file.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(file.content)).info["parameters"] == told["infotext"] == http.get(f"/pictures/{picture}/infotext").text


def test_pictures_that_are_not_there_are_not_found(http: httpx.Client, service: Service) -> None:
    picture = picture_of(http)
    service.picture(picture).path.unlink()
    assert "is not there any more" in http.get(f"/pictures/{picture}/file").json()["errors"]
    for wrong, code in ((10**6, 404), (2**63, 422), ("x", 422)):
        assert http.get(f"/pictures/{wrong}/file").status_code == code


def test_an_input_is_named_by_its_hash_and_drawn_from(http: httpx.Client) -> None:
    data = base64.b64decode(png((64, 64), colour="red"))
    kept = http.post("/inputs", files={"file": ("a.png", data)})
    assert kept.status_code == 201
    request = {"kind": "img2img", "steps": 2, "init": {"image": kept.json()["input"], "denoising_strength": 0.5}}
    job = ended(http, http.post("/jobs", json={"request": request}).json()["id"])
    assert (job["kind"], job["status"]) == ("img2img", "done")
    assert http.post("/inputs", files={"file": ("a.png", b"no picture")}).status_code == 422
    missing = http.post("/jobs", json={"request": {"kind": "img2img", "init": {"image": "0" * 64}}})
    assert missing.status_code == 404


def test_what_a_file_says_is_read(http: httpx.Client) -> None:
    file = http.get(f"/pictures/{picture_of(http, prompt='a cat')}/file").content
    told = http.post("/png-info", files={"file": ("a.png", file)}).json()
    assert told["text"].startswith("a cat\n")
    assert ["Prompt", "a cat"] in told["fields"]


def test_a_recipe_is_told_with_what_of_it_is_here_and_what_is_missing(http: httpx.Client) -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a cat <lora:gone:1>\nSteps: 5, Sampler: Euler, Seed: 1, Size: 64x64, Model: alpha, Odd: 1")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG", pnginfo=chunks)
    notes = http.post("/png-info", files={"file": ("a.png", buffer.getvalue())}).json()["notes"]
    assert [(kind, name) for kind, name, _ in notes] == [
        ("applied", "settings"),
        ("not understood", "Odd"),
        ("applied", "checkpoint alpha"),
        ("missing", "LoRA gone"),
    ]


def test_models_are_searched(http: httpx.Client) -> None:
    found = until(lambda: http.get("/models", params={"kind": "checkpoint", "search": "alp"}).json()["models"])
    assert [card["name"] for card in found] == ["alpha.ckpt"]
    assert http.get("/models", params={"kind": "checkpoint", "search": "zebra"}).json()["models"] == []
    assert http.get("/models", params={"kind": "secrets"}).status_code == 422


def test_a_picture_is_made_again_and_compared(http: httpx.Client, service: Service) -> None:
    (data_folder(service) / "models/Stable-diffusion").mkdir(exist_ok=True)
    reply = http.post("/replay", json={"picture": picture_of(http, seed=8)})
    assert reply.status_code == 202, reply.text
    told = until(lambda: (found := http.get(f"/replay/{reply.json()['id']}").json())["verdict"] and found)
    assert (told["verdict"], told["job"]) == ("identical", reply.json()["job"])
    again = http.post("/replay", json={"input": reply.json()["input"]}).json()
    assert again["job"] != reply.json()["job"]
    ended(http, again["job"])


def test_a_replay_names_one_picture(http: httpx.Client) -> None:
    for body in ({}, {"picture": 1, "input": "0" * 64}, {"input": "../../etc/passwd"}, {"picture": -1}):
        assert http.post("/replay", json=body).status_code == 422
    assert http.post("/replay", json={"input": "0" * 64}).status_code == 404
    assert http.get("/replay/nothing").status_code == 422
