"""Whatever clients send in whatever field, the answer is a picture or a 4xx with a sentence, never a traceback."""

import json
import random
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import png
from tests.api.test_known_options import LISTED
from webui.api import schemas as wire
from webui.api import training
from webui.core.settings import Settings

VALUES: list[Any] = [None, "", 0, 1, -1, 2.5, "1.0", "abc", True, False, [], {}, [1], {"a": 1}, 1e308, -1e308, 10**30, "x" * 300, "NaN"]
VALUES += [[None], [[1]], "Latent", "Karras", "Euler", "None", "../../x"]
SCRIPTS = [
    "x/y/z plot",
    "prompt matrix",
    "prompts from file or textbox",
    "loopback",
    "sd upscale",
    "outpainting mk2",
    "poor man's outpainting",
]
OPTIONS = [*LISTED.split(), "cfg_rescale"]


def body(kind: type[wire.Generation], rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"steps": 1, "width": 64, "height": 64, "prompt": "x"}
    if kind is wire.Img2Img:
        made["init_images"] = [png()]
    if rng.random() < 0.3:
        made["enable_hr"] = True
    if rng.random() < 0.2:
        made |= {"script_name": rng.choice(SCRIPTS), "script_args": [rng.choice(VALUES) for _ in range(rng.randrange(12))]}
    if rng.random() < 0.3:
        made["override_settings"] = {rng.choice(OPTIONS): rng.choice(VALUES)}
    fields = [name for name in kind.model_fields if name != "force_task_id"]
    return made | {name: rng.choice(VALUES) for name in rng.sample(fields, rng.choice([1, 1, 2, 3]))}


@pytest.mark.parametrize("kind", [wire.Txt2Img, wire.Img2Img])
def test_no_value_of_any_field_is_a_server_error(http: TestClient, kind: type[wire.Generation]) -> None:
    rng = random.Random(5)
    for _ in range(250):
        sent = body(kind, rng)
        answer = http.post(f"/sdapi/v1/{kind.__name__.lower()}", content=json.dumps(sent), headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (sent, answer.text[:500])


def test_no_value_of_any_option_is_a_server_error(http: TestClient) -> None:
    rng = random.Random(6)
    for _ in range(400):
        sent = {rng.choice(OPTIONS): rng.choice(VALUES)}
        answer = http.post("/sdapi/v1/options", content=json.dumps(sent), headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (sent, answer.text[:500])
    assert http.get("/sdapi/v1/options").status_code == 200


BODIES = {
    "interrogate": wire.Interrogation,
    "create/embedding": training.NewEmbedding,
    "create/hypernetwork": training.NewHypernetwork,
    "train/embedding": training.EmbeddingTraining,
    "train/hypernetwork": training.HypernetworkTraining,
}


@pytest.mark.parametrize("route", BODIES)
def test_no_value_of_any_other_field_is_a_server_error(http: TestClient, settings: Settings, route: str) -> None:
    rng = random.Random(7)
    for _ in range(80):
        sent = {name: rng.choice([*VALUES, png(), "x"]) for name in BODIES[route].model_fields if rng.random() < 0.5}
        answer = http.post(f"/sdapi/v1/{route}", content=json.dumps(sent), headers={"Content-Type": "application/json"})
        assert answer.status_code < 500 or (route, answer.status_code) == ("interrogate", 501), (sent, answer.text[:500])
    for folder in (settings.embeddings_dirs[0], settings.hypernetwork_dirs[0]):
        for path in folder.glob("*.pt"):
            if path.read_bytes() == b"made":
                path.unlink()
