"""What /sdapi/v1 says and does about the server itself."""

from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import png
from webui.api.routes import sdapi_router
from webui.api.system import Switch
from webui.core.settings import Settings
from webui.service.service import Service


def last_order(service: Service) -> str:
    return (service.settings.data_dir / "weights.txt").read_text().splitlines()[-1]


@pytest.mark.parametrize("body", [{}, {"json": {}}, {"content": b'""'}, {"headers": {"Content-Type": "application/json"}}])
def test_unloading_and_reloading_answer_an_object_when_the_worker_has_followed(http: TestClient, service: Service, body: dict) -> None:
    for action in ("unload", "reload"):
        reply = http.post(f"/sdapi/v1/{action}-checkpoint", **body)
        assert (reply.status_code, reply.json()) == (200, {})
        assert last_order(service).startswith(f"{action} ")


def test_reloading_means_the_preferred_checkpoint(http: TestClient, service: Service) -> None:
    http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "beta"})
    http.post("/sdapi/v1/reload-checkpoint")
    assert last_order(service) == "reload people/beta.ckpt"


def test_a_checkpoint_that_cannot_be_loaded_is_told(http: TestClient, service: Service) -> None:
    service.set_preferences({"sd_model_checkpoint": "beta"})
    file = next(file for file in service.catalog.checkpoints() if file.name == "people/beta.ckpt").path
    content = file.read_bytes()
    file.unlink()
    try:
        reply = http.post("/sdapi/v1/reload-checkpoint")
    finally:
        file.write_bytes(content)
    assert (reply.status_code, "beta" in reply.json()["detail"]) == (404, True)


def test_there_are_no_extensions(http: TestClient) -> None:
    assert http.get("/sdapi/v1/extensions").json() == []


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"image": png(), "model": "clip"}, 501, "no captioner"),
        ({"image": png(), "model": "deepdanbooru"}, 501, "no captioner"),
        ({"image": png(), "model": "other"}, 404, "Model not found"),
        ({"model": "clip"}, 404, "Image not found"),
        ({"image": "!!!", "model": "clip"}, 422, "not base64"),
    ],
)
def test_captions_are_refused_with_a_reason(http: TestClient, body: dict, status: int, sentence: str) -> None:
    reply = http.post("/sdapi/v1/interrogate", json=body)
    assert reply.status_code == status
    assert sentence in reply.json()["detail"]


def made(service: Service, settings: Settings, switch: Switch) -> TestClient:
    app = FastAPI()
    app.include_router(sdapi_router(service, settings, switch))
    return TestClient(app)


def test_the_server_can_be_ended_with_the_flag_alone(service: Service, settings: Settings) -> None:
    switch, stopped = Switch(), []
    switch.stop = lambda: stopped.append(1)
    closed = made(service, settings, switch)
    assert [closed.post(f"/sdapi/v1/server-{word}").status_code for word in ("kill", "stop", "restart")] == [404] * 3
    http = made(service, replace(settings, api_server_stop=True), switch)
    assert (http.post("/sdapi/v1/server-kill").json(), len(stopped), switch.restart) == (None, 1, False)
    assert (http.post("/sdapi/v1/server-stop").text, len(stopped), switch.restart) == ("Stopping.", 2, False)
    assert (http.post("/sdapi/v1/server-restart").status_code, len(stopped), switch.restart) == (200, 3, True)


def test_a_restart_that_the_system_cannot_do_is_a_501(service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.api.system.os.name", "nt")
    switch = Switch()
    reply = made(service, replace(settings, api_server_stop=True), switch).post("/sdapi/v1/server-restart")
    assert (reply.status_code, switch.restart) == (501, False)
