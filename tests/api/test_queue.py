"""webui/api/queue.py: what the Queue tab is told, and what it may order."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import until
from webui.api.internal import internal_router
from webui.core.model_orders import SaveOrder
from webui.core.request import GenerationRequest
from webui.core.xray import Recording, XrayRequest
from webui.service.service import Service

ME, OTHER = "browser-one", "browser-two"


@pytest.fixture
def crowd(own: Service) -> Iterator[TestClient]:
    """The same service, where several people may come."""
    own.settings = replace(own.settings, host="0.0.0.0")
    app = FastAPI()
    app.include_router(internal_router(own))
    with TestClient(app) as client:
        yield client


def submit(service: Service, prompt: str, owner: str = ME) -> str:
    return service.submit(GenerationRequest(prompt=prompt, width=64, height=64, steps=2, seed=1), owner=owner)


def listed(page: TestClient, client: str = ME) -> list[str]:
    return [job["title"] for job in page.get("/internal/queue", params={"client": client}).json()["jobs"]]


def order(page: TestClient, order: str, job: str = "", client: str = ME, **more: object) -> int:
    return page.post("/internal/queue", json={"order": order, "job": job, "client": client, **more}).status_code


def test_the_list_has_what_a_row_shows(page: TestClient, own: Service) -> None:
    job_id = submit(own, "a <b>cat</b>")
    told = page.get("/internal/queue", params={"client": ME}).json()
    assert (told["state"]["waiting"], told["state"]["paused"], told["all"]) == (1, "", True)
    (job,) = told["jobs"]
    assert (job["id"], job["tab"], job["title"], job["status"], job["own"]) == (job_id, "txt2img", "a <b>cat</b>", "queued", True)
    assert job["editable"] is True


def test_jobs_are_moved_given_priority_cancelled_and_retried(page: TestClient, own: Service) -> None:
    one, two, three = (submit(own, name) for name in ("1", "2", "3"))
    assert order(page, "move", three, to="top") == 200
    assert listed(page) == ["3", "1", "2"]
    assert order(page, "before", two, before=one) == 200
    assert listed(page) == ["3", "2", "1"]
    assert order(page, "priority", one, priority="high") == 200
    assert listed(page) == ["1", "3", "2"]
    assert order(page, "cancel", three) == 200
    assert listed(page) == ["1", "2", "3"]
    assert order(page, "retry", three) == 200
    assert own.job(three).status == "queued"
    assert order(page, "duplicate", one) == 200
    assert len(listed(page)) == 4


def test_pause_resume_and_clear(page: TestClient, own: Service) -> None:
    job_id = submit(own, "1")
    assert order(page, "pause") == 200
    assert own.queue.state(None).paused == "all"
    assert order(page, "resume") == 200
    assert own.queue.state(None).paused == ""
    order(page, "cancel", job_id)
    assert order(page, "clear") == 200
    assert listed(page) == []


def test_where_several_people_come_each_sees_and_orders_their_own(crowd: TestClient, own: Service) -> None:
    mine, theirs = submit(own, "mine"), submit(own, "theirs", OTHER)
    assert listed(crowd) == ["mine"]
    assert order(crowd, "cancel", theirs) == 403
    assert order(crowd, "move", theirs, to="top") == 403
    assert order(crowd, "pause") == 200
    assert (own.queue.state(ME).paused, own.queue.state(OTHER).paused) == ("own", "")
    assert own.job(mine).text == "The queue is paused"


@pytest.mark.parametrize("body", [{"order": "explode"}, {"order": "move", "job": "none", "to": "top"}, {"order": "pause", "client": "?"}])
def test_what_makes_no_sense_is_refused(page: TestClient, body: dict[str, str]) -> None:
    assert page.post("/internal/queue", json=body).status_code in (404, 422)


def test_orders_for_model_files_are_listed_and_not_edited(page: TestClient, own: Service) -> None:
    own.submit(SaveOrder(checkpoint="alpha", name="copy"), owner=ME)
    (job,) = page.get("/internal/queue", params={"client": ME}).json()["jobs"]
    assert (job["tab"], job["editable"]) == ("merger", False)
    assert "alpha" in job["title"]


def test_an_xray_names_its_prompt_once(page: TestClient, own: Service) -> None:
    own.submit(XrayRequest(base=GenerationRequest(prompt="a fox", checkpoint="alpha.ckpt"), study=Recording()), owner=ME)
    assert listed(page) == ["X-ray: a fox"]


def test_a_page_is_told_when_the_queue_changes(page: TestClient, own: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        socket.receive_json()
        assert socket.receive_json()["queue"]["waiting"] == 0
        submit(own, "1", OTHER)
        told = until(lambda: socket.receive_json().get("queue"))
    assert told["waiting"] == 1
