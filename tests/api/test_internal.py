"""The page's own routes, on the real service of this folder's conftest."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from tests.api.conftest import PATIENCE, holding, png
from webui.api.internal import internal_router
from webui.api.roles import GUEST
from webui.core.request import GenerationRequest
from webui.service.service import Service

ME, OTHER = "browser-one", "browser-two"


@pytest.fixture(scope="module")
def page(service: Service) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(internal_router(service))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def clean(service: Service) -> Iterator[None]:
    yield
    for name in ("go", "holding"):
        (service.settings.data_dir / name).unlink(missing_ok=True)


def submit(service: Service, prompt: str, owner: str = ME, **fields: Any) -> str:
    return service.submit(GenerationRequest(prompt=prompt, width=64, height=64, steps=2, **fields), owner=owner)


def upload(page: TestClient, route: str, data: bytes) -> Any:
    return page.post(f"/internal/{route}", files={"file": ("picture.png", data)})


def with_text(text: str) -> bytes:
    buffer, chunks = io.BytesIO(), PngInfo()
    chunks.add_text("parameters", text)
    Image.new("RGB", (16, 8)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def snapshots(socket: WebSocketTestSession, job_id: str, until: str, seconds: float = PATIENCE) -> list[dict[str, Any]]:
    """What the socket tells of a job, up to status `until`."""
    told: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for job in socket.receive_json().get("jobs", []):
            if job["id"] == job_id:
                told.append(job)
                if job["status"] == until:
                    return told
    raise AssertionError(f"never {until}: {told}")


def test_a_page_is_told_of_its_job_until_the_picture_is_there(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        hello = socket.receive_json()
        assert (hello["hello"], hello["reach"], hello["losses"]) == (True, "own", [])
        told = snapshots(socket, submit(service, "a fox", seed=2**60 + 1), "done")
    pictures = [picture for snapshot in told for picture in snapshot.get("pictures", [])]
    assert pictures[-1]["seed"] == str(2**60 + 1)
    assert page.get(f"/internal/pictures/{pictures[-1]['id']}").content[:8] == b"\x89PNG\r\n\x1a\n"


def test_guests_see_the_pictures_of_their_own_browser_alone(service: Service) -> None:
    mine, theirs, nobodys = (service.wait(submit(service, "x", owner), PATIENCE).pictures[0].id for owner in (ME, OTHER, ""))
    app = FastAPI()
    app.include_router(internal_router(service))

    async def as_guest(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, GUEST: True}, receive, send)

    http = TestClient(as_guest)
    asked = {
        name: http.get(f"/internal/pictures/{number}?client={ME}").status_code for name, number in [("mine", mine), ("theirs", theirs)]
    }
    assert asked == {"mine": 200, "theirs": 403}
    assert http.get(f"/internal/pictures/{mine}").status_code == 403
    assert http.get(f"/internal/pictures/{nobodys}?client=").status_code == 403


@pytest.mark.usefixtures("clean")
def test_a_page_is_told_how_many_jobs_there_are_whoever_has_them(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        jobs = [submit(service, "hold", OTHER) for _ in range(2)]
        end = time.monotonic() + PATIENCE
        told: dict[str, Any] = {}
        while (told.get("running"), told.get("waiting")) != (1, 1):
            assert time.monotonic() < end
            told = socket.receive_json().get("status", told)
    assert [(device["state"], device["busy"]) for device in told["devices"]] == [("ready", True)]
    for job_id in jobs:
        service.interrupt(job_id)
        service.wait(job_id, PATIENCE)


def test_a_picture_whose_file_is_gone_and_one_that_never_was_are_not_found(page: TestClient, service: Service) -> None:
    job_id = submit(service, "gone")
    picture = service.wait(job_id, PATIENCE).pictures[0]
    picture.path.unlink()
    for number in (picture.id, 99999999999999999999, 2**40):
        reply = page.get(f"/internal/pictures/{number}")
        assert reply.status_code == 404
        assert "picture" in reply.json()["errors"]


def test_a_page_that_opens_later_is_told_what_ended_before(page: TestClient, service: Service) -> None:
    job_id = submit(service, "before")
    service.wait(job_id, PATIENCE)
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        hello = socket.receive_json()
    assert next(job for job in hello["jobs"] if job["id"] == job_id)["pictures"]


def test_a_page_is_not_told_of_the_jobs_of_others(page: TestClient, service: Service) -> None:
    theirs = submit(service, "theirs", OTHER)
    service.wait(theirs, PATIENCE)
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        mine = submit(service, "mine")
        told = [job["id"] for job in socket.receive_json()["jobs"]]
        snapshots(socket, mine, "done")
    assert theirs not in told


@pytest.mark.usefixtures("clean")
def test_a_waiting_page_is_told_its_place_and_sees_only_its_own_preview(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        running = submit(service, "hold", OTHER)
        holding(service)
        waiting = submit(service, "mine")
        assert snapshots(socket, waiting, "queued")[-1]["ahead"] == 1
        assert page.get(f"/internal/jobs/{running}/preview.jpg?client={ME}").status_code == 403
        assert page.post(f"/internal/jobs/{running}/interrupt?client={ME}").status_code == 403
        assert page.post(f"/internal/jobs/{running}/interrupt?client={OTHER}").status_code == 200
        snapshots(socket, waiting, "done")
    assert service.job(running).status == "interrupted"


@pytest.mark.usefixtures("clean")
def test_the_preview_of_a_running_job_is_a_jpeg(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        job_id = submit(service, "hold")
        while not service.job(job_id).preview_seq:
            socket.receive_json()
        reply = page.get(f"/internal/jobs/{job_id}/preview.jpg?client={ME}")
        assert reply.content[:2] == b"\xff\xd8"
        page.post(f"/internal/jobs/{job_id}/interrupt?client={ME}")
        snapshots(socket, job_id, "interrupted")


def test_a_failed_job_brings_its_sentence(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        told = snapshots(socket, submit(service, "fail"), "failed")
    assert "ask for something else" in told[-1]["error"]


def test_an_ill_formed_client_is_refused(page: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), page.websocket_connect("/internal/ws/a%20b"):
        pass


def test_an_input_comes_back_byte_for_byte(page: TestClient) -> None:
    data = base64.b64decode(png((24, 16), "RGBA", (1, 2, 3, 4)))
    name = upload(page, "inputs", data).json()["input"]
    assert page.get(f"/internal/inputs/{name}").content == data


@pytest.mark.parametrize("route", ["inputs", "png-info"])
@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_picture_is_refused_with_a_sentence(page: TestClient, route: str, data: bytes) -> None:
    reply = upload(page, route, data)
    assert reply.status_code == 422
    assert len(reply.json()["errors"]) > 10


def test_png_info_tells_text_and_table(page: TestClient) -> None:
    text = "a fox\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, Seed: 5, Size: 512x768"
    told = upload(page, "png-info", with_text(text)).json()
    assert told["text"] == text
    assert dict(map(tuple, told["fields"])) == {
        "Prompt": "a fox",
        "Negative prompt": "blur",
        "Steps": "20",
        "Sampler": "Euler a",
        "Seed": "5",
        "Size": "512x768",
    }
    assert (told["width"], told["height"], told["format"]) == (16, 8, "PNG")


@pytest.mark.parametrize("text", ["", "Steps:", "Steps: x, Size: 1x, Seed: \x00", "{'no': 'infotext'}", "a\nb\n" * 1000, "🦊" * 100])
def test_png_info_of_foreign_or_damaged_text_is_never_an_error(page: TestClient, text: str) -> None:
    assert upload(page, "png-info", with_text(text)).status_code == 200


def test_missing_pictures_and_jobs_are_404(page: TestClient) -> None:
    for route in ("pictures/999999", "inputs/" + "0" * 64, "inputs/..%2f..%2fetc", "jobs/none/preview.jpg"):
        assert page.get(f"/internal/{route}").status_code == 404


def test_a_replay_is_queued_and_judged(page: TestClient, service: Service) -> None:
    picture = service.wait(submit(service, "a fox", seed=4), PATIENCE).pictures[0]
    told = upload(page, "png-info", picture.path.read_bytes()).json()
    assert told["recipe"] is True
    job = page.post("/internal/replay", json={"input": told["input"], "client": ME}).json()["job"]
    service.wait(job, PATIENCE)
    assert page.get(f"/internal/replay/{job}", params={"of": told["input"], "client": ME}).json()["verdict"] == "identical"
    assert page.get(f"/internal/replay/{job}", params={"of": told["input"], "client": OTHER}).status_code == 403


def test_a_picture_without_a_recipe_cannot_be_replayed(page: TestClient) -> None:
    told = upload(page, "png-info", with_text("a cat\nSteps: 20, Seed: 1, Size: 64x64")).json()
    reply = page.post("/internal/replay", json={"input": told["input"], "client": ME})
    assert (told["recipe"], reply.status_code, "no recipe" in reply.json()["errors"]) == (False, 422, True)


def test_png_info_tells_what_another_programs_recipe_loses(page: TestClient) -> None:
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": 3, "sampler_name": "warp", "steps": 9, "cfg": 5}}}
    chunks = PngInfo()
    chunks.add_text("prompt", json.dumps(graph))
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8)).save(buffer, "PNG", pnginfo=chunks)
    told = upload(page, "png-info", buffer.getvalue()).json()
    assert ["Steps", "9"] in told["fields"]
    assert ["not understood", "sampler_name", "sampler 'warp' is not known here"] in told["notes"]
