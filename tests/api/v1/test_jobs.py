"""webui/api/v1/jobs.py and schemas.py, as programs see them."""

from dataclasses import fields
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import holding, until
from tests.api.v1.conftest import SMALL, data_folder, ended, status, submit
from webui.api.v1 import schemas, v1_router
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.service.service import Service


def test_a_job_has_its_id_at_once_and_its_picture_later(http: httpx.Client) -> None:
    reply = http.post("/jobs", json={"request": {**SMALL, "prompt": "a cat", "seed": 9}, "priority": "high"})
    assert reply.status_code == 202
    told = reply.json()
    assert (told["kind"], told["title"], told["priority"]) == ("txt2img", "a cat", "high")
    job = ended(http, told["id"])
    assert (job["status"], job["fraction"]) == ("done", 1.0)
    assert [picture["seed"] for picture in http.get(f"/jobs/{told['id']}/pictures").json()] == [9]
    assert job["request"]["sampler"] == "DPM++ 2M"
    assert job["request"]["checkpoint"] == "alpha.ckpt"


def test_every_field_of_a_request_can_be_asked_but_what_completion_settles() -> None:
    names = {field.name for field in fields(GenerationRequest)} - set(schemas.SETTLED)
    assert set(schemas.Txt2Img.model_fields) == names - {"init"} | {"kind"}
    assert set(schemas.Img2Img.model_fields) == names - {"hires"} | {"kind"}
    plain = schemas.asked(schemas.Txt2Img(kind="txt2img"))
    assert plain == GenerationRequest()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({**SMALL, "promt": "a cat"}, "promt"),
        ({**SMALL, "hires": {"scael": 2}}, "hires.scael is not known; there are: "),
        ({"kind": "img2img", "init": {"image": "0" * 64, "inpaint": {"masc": ""}}}, "init.inpaint.masc is not known"),
        ({**SMALL, "width": 65}, "width 65 is not a multiple of 8; try 64"),
        ({**SMALL, "steps": "many"}, "steps"),
        ({**SMALL, "kind": "drawing"}, "txt2img"),
        ({"kind": "img2img"}, "init"),
        ({"kind": "script", "script": "Nothing such", "base": {}}, "Nothing such"),
        ({"kind": "script", "script": "Prompt matrix", "base": {"promt": ""}}, "base.promt is not known"),
        ({"kind": "merge", "primary": "nobody", "secondary": "x"}, "nobody"),
        ({"kind": "save", "checkpoint": "alpha", "name": ""}, "no name"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(http: httpx.Client, request_: dict[str, Any], told: str) -> None:
    before = len(http.get("/jobs").json()["jobs"])
    reply = http.post("/jobs", json={"request": request_})
    assert reply.status_code in (404, 422)
    assert told in reply.json()["errors"]
    assert len(http.get("/jobs").json()["jobs"]) == before


def test_an_id_of_ones_own_is_taken_once(http: httpx.Client) -> None:
    assert http.post("/jobs", json={"request": SMALL, "id": "mine:1"}).status_code == 202
    again = http.post("/jobs", json={"request": SMALL, "id": "mine:1"})
    assert (again.status_code, "exists already" in again.json()["errors"]) == (422, True)


def test_jobs_are_listed_newest_first_in_pages_and_by_status(http: httpx.Client) -> None:
    http.post("/queue/pause")
    ids = [submit(http, prompt=str(i)) for i in range(3)]
    first = http.get("/jobs", params={"limit": 2, "status": "queued"}).json()
    assert [job["id"] for job in first["jobs"]] == ids[:0:-1]
    rest = http.get("/jobs", params={"limit": 2, "status": "queued", "before": first["next"]}).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == (ids[:1], None)
    assert http.get("/jobs", params={"status": ["saving", "running"]}).json()["jobs"] == []


def test_waiting_jobs_are_moved_edited_and_given_priority(http: httpx.Client) -> None:
    http.post("/queue/pause")
    one, two, three = (submit(http, prompt=str(i), seed=i) for i in range(3))
    assert http.patch(f"/jobs/{three}", json={"move": "top"}).json()["ahead"] == 0
    assert http.patch(f"/jobs/{two}", json={"before": one}).json()["ahead"] == 1
    assert http.patch(f"/jobs/{one}", json={"priority": "high"}).json()["ahead"] == 0
    edited = http.patch(f"/jobs/{two}", json={"request": {**SMALL, "prompt": "new", "seed": 77}}).json()
    assert (edited["title"], edited["ahead"]) == ("new", 2)
    http.post("/queue/resume")
    assert [picture["seed"] for picture in ended(http, two)["pictures"]] == [77]


def test_a_job_that_runs_cannot_be_edited(http: httpx.Client, service: Service) -> None:
    job_id = submit(http, prompt="hold")
    holding(service)
    for change in ({"move": "top"}, {"priority": "low"}, {"request": SMALL}, {"before": job_id}):
        reply = http.patch(f"/jobs/{job_id}", json=change)
        assert (reply.status_code, reply.json()["error"]) == (409, "TooLate")


def test_delete_cancels_what_waits_and_stops_what_runs(http: httpx.Client, service: Service) -> None:
    running, waiting = submit(http, prompt="hold"), submit(http)
    holding(service)
    assert http.delete(f"/jobs/{waiting}").json()["status"] == "interrupted"
    assert http.delete(f"/jobs/{running}").json()["stopping"] is True
    assert ended(http, running)["status"] == "interrupted"
    assert http.post(f"/jobs/{running}/interrupt").json()["status"] == "interrupted"


def test_skip_drops_a_batch(http: httpx.Client, service: Service) -> None:
    job_id = submit(http, prompt="hold", batch_count=2, seed=3)
    holding(service)
    assert http.get(f"/jobs/{job_id}/preview").status_code in (200, 404)
    until(lambda: http.get(f"/jobs/{job_id}/preview").content[:2] == b"\xff\xd8")
    assert http.post(f"/jobs/{job_id}/skip").status_code == 200
    (data_folder(service) / "go").touch()
    assert [picture["seed"] for picture in ended(http, job_id)["pictures"]] == [4]


def test_retry_keeps_the_id_and_duplicate_makes_another(http: httpx.Client) -> None:
    http.post("/queue/pause")
    job_id = submit(http, seed=5)
    http.delete(f"/jobs/{job_id}")
    retried = http.post(f"/jobs/{job_id}/retry").json()
    assert (retried["id"], retried["status"]) == (job_id, "queued")
    same, other = http.post(f"/jobs/{job_id}/duplicate"), http.post(f"/jobs/{job_id}/duplicate", json={"new_seed": True})
    assert (same.status_code, other.status_code) == (202, 202)
    http.post("/queue/resume")
    seeds = [ended(http, each)["pictures"][0]["seed"] for each in (job_id, same.json()["id"], other.json()["id"])]
    assert seeds[:2] == [5, 5]
    assert seeds[2] != 5
    assert http.post(f"/jobs/{job_id}/retry").status_code == 409


def test_a_failed_job_tells_its_error(http: httpx.Client) -> None:
    job = ended(http, submit(http, prompt="fail"))
    assert (job["status"], job["error"], job["error_status"]) == ("failed", "this cannot be drawn; ask for something else", 422)


def test_pause_state_and_clear(http: httpx.Client) -> None:
    assert http.post("/queue/pause").json()["paused"] == "all"
    job_id = submit(http)
    assert http.get("/queue").json()["waiting"] == 1
    assert http.get(f"/jobs/{job_id}").json()["text"] == "The queue is paused"
    assert http.post("/queue/resume").json()["paused"] == ""
    ended(http, job_id)
    assert http.post("/queue/clear").json()["cleared"] >= 1
    assert http.get("/jobs").json()["jobs"] == []
    assert status(http, job_id) == "done"


def test_scripts_run(http: httpx.Client) -> None:
    base = {"prompt": "a circle|red", "seed": 1, "width": 64, "height": 64, "steps": 2}
    reply = http.post("/jobs", json={"request": {"kind": "script", "script": "Prompt matrix", "base": base}})
    job = ended(http, reply.json()["id"])
    assert (job["kind"], job["status"], len(job["pictures"])) == ("script", "done", 3)
    assert "changes" not in job["request"]


def test_on_a_shared_server_everybody_manages_their_own(ann: httpx.Client, bob: httpx.Client, http: httpx.Client) -> None:
    http.post("/queue/pause")
    hers, his = submit(ann, prompt="hers"), submit(bob, prompt="his")
    assert [job["id"] for job in ann.get("/jobs").json()["jobs"]] == [hers]
    for reply in (
        bob.get(f"/jobs/{hers}"),
        bob.get(f"/jobs/{hers}/pictures"),
        bob.get(f"/jobs/{hers}/events"),
        bob.get(f"/jobs/{hers}/preview"),
        bob.delete(f"/jobs/{hers}"),
        bob.post(f"/jobs/{hers}/skip"),
        bob.post(f"/jobs/{hers}/retry"),
        bob.post(f"/jobs/{hers}/duplicate"),
        bob.patch(f"/jobs/{hers}", json={"request": SMALL}),
        bob.patch(f"/jobs/{his}", json={"before": hers}),
    ):
        assert (reply.status_code, reply.json()["error"]) == (403, "NotAllowed")
    assert bob.post("/queue/resume").json()["paused"] == "all"  # not his to end
    http.post("/queue/resume")
    picture = ended(ann, hers)["pictures"][0]["id"]
    for path in ("", "/file", "/infotext"):
        assert bob.get(f"/pictures/{picture}{path}").status_code == 403
        assert ann.get(f"/pictures/{picture}{path}").status_code == 200
    assert bob.post("/replay", json={"picture": picture}).status_code == 403


def test_programs_of_one_user_may_name_themselves(http: httpx.Client) -> None:
    named = {"X-Easel-Client": "my-program-1"}
    reply = http.post("/jobs", json={"request": SMALL}, headers=named)
    assert reply.status_code == 202
    assert http.get("/jobs", headers={"X-Easel-Client": "no"}).status_code == 422
    assert ended(http, reply.json()["id"])["status"] == "done"


def test_everything_is_documented_with_examples(service: Service, settings: Settings) -> None:
    app = FastAPI()
    app.include_router(v1_router(service, settings))
    with TestClient(app) as client:
        told = client.get("/openapi.json").json()
    assert {"/api/v1/jobs", "/api/v1/events", "/api/v1/queue/pause", "/api/v1/replay/{replay_id}"} <= set(told["paths"])
    for path, methods in told["paths"].items():
        for method, route in methods.items():
            assert route["description"], (path, method)
            assert "409" in route["responses"]
            body = route.get("requestBody", {}).get("content", {}).get("application/json")
            if body:
                name = next(
                    each["$ref"].rpartition("/")[2] for each in (body["schema"], *body["schema"].get("anyOf", ())) if "$ref" in each
                )
                assert told["components"]["schemas"][name]["examples"], (path, name)
    examples = told["components"]["schemas"]["NewJob"]["examples"]
    assert len(examples) == 3
    for example in examples:
        text = {**example["request"], **({"init": {"image": "0" * 64}} if "init" in example["request"] else {})}
        schemas.NewJob.model_validate({**example, "request": text})
    drawing = told["components"]["schemas"]["Txt2Img"]["properties"]
    assert (drawing["steps"]["default"], drawing["cfg_scale"]["type"]) == (20, "number")
