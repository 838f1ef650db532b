"""What older clients ask outside /sdapi: tasks by their ids, facts about the system, Gradio 3's queue."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import PATIENCE, holding, until
from webui.api.tasks import tasks_router
from webui.core.settings import Settings
from webui.service.service import Service


@pytest.fixture
def tasks(service: Service, settings: Settings) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(tasks_router(service, settings))
    with TestClient(app) as client:
        yield client


def progress(tasks: TestClient, name: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = tasks.post("/internal/progress", json={"id_task": name, **more}).json()
    return told


def test_a_task_is_told_from_its_place_in_the_queue_to_its_end(http: TestClient, tasks: TestClient, service: Service, post: Any) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, prompt="hold", steps=4, force_task_id="task(first)")
        holding(service)
        later = [pool.submit(post, force_task_id=f"task({i})") for i in range(2)]
        until(lambda: len(service.jobs()) == 3)
        waiting = tasks.get("/internal/pending-tasks").json()
        assert (waiting["size"], set(waiting["tasks"])) == (2, {"task(0)", "task(1)"})
        second = progress(tasks, waiting["tasks"][1])
        assert (second["active"], second["queued"], second["completed"], second["textinfo"]) == (False, True, False, "In queue: 2/2")
        seen = until(lambda: (told := progress(tasks, "task(first)"))["live_preview"] and told)
        assert (seen["active"], seen["queued"], seen["progress"]) == (True, False, 0.25)
        assert seen["live_preview"].startswith("data:image/jpeg;base64,/9j/")
        assert progress(tasks, "task(first)", live_preview=False)["live_preview"] is None
        assert tasks.get("/queue/status").json()["queue_size"] == 3
        (service.settings.data_dir / "go").touch()
        for job in (first, *later):
            job.result(PATIENCE)
    assert progress(tasks, "task(first)")["completed"] is True


def test_a_task_id_that_comes_again_is_the_newest_task(http: TestClient, tasks: TestClient, service: Service, post: Any) -> None:
    post(force_task_id="same")
    assert progress(tasks, "same")["completed"] is True
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(post, prompt="hold", steps=4)
        holding(service)
        again = pool.submit(post, force_task_id="same")
        until(lambda: len(service.jobs()) == 2)
        assert progress(tasks, "same")["queued"] is True
        assert tasks.get("/internal/pending-tasks").json()["tasks"] == ["same"]
        (service.settings.data_dir / "go").touch()
        for job in (held, again):
            job.result(PATIENCE)
    assert progress(tasks, "same")["completed"] is True


def test_a_task_that_nobody_knows_is_neither_active_nor_done(tasks: TestClient) -> None:
    told = progress(tasks, "task(nobody)")
    assert (told["active"], told["queued"], told["completed"], told["id_live_preview"]) == (False, False, False, -1)


def test_an_idle_queue_is_empty(tasks: TestClient) -> None:
    assert tasks.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}
    status = tasks.get("/queue/status").json()
    assert (status["msg"], status["queue_size"], status["queue_eta"]) == ("estimation", 0, 0)


def test_facts_about_the_system_hold_no_password_and_no_environment(tasks: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_TEST_TOKEN", "token-of-the-environment")
    told = tasks.get("/internal/sysinfo").json()
    assert told["Packages"]["torch"]
    assert told["Version"].startswith("Easel ")
    assert told["Config"]["samples_format"]
    assert told["Flags"]["gradio_auth"] == "***"
    text = json.dumps(told)
    assert "very-secret" not in text
    assert "token-of-the-environment" not in text
