"""webui/api/training_page.py: sets of pictures, and trainings that are ordered and looked at."""

import pytest
from fastapi.testclient import TestClient

from tests.service.test_training_sets import png
from webui.core.event import Record
from webui.core.training_request import TrainingRequest
from webui.service.service import Service

ME = "browser-one"


def add(page: TestClient, name: str = "cats") -> None:
    assert page.post(f"/internal/training/sets/{name}", files={"file": ("a.png", png("a cat"))}).status_code == 200


def test_a_set_is_filled_described_looked_at_and_emptied(page: TestClient) -> None:
    add(page)
    route = "/internal/training/sets/cats"
    assert page.get(f"{route}/a.png").content == png("a cat")
    page.post(f"{route}/a.png", json={"caption": "a dog"})
    assert page.get(route).json() == {"pictures": [{"file": "a.png", "caption": "a dog"}]}
    page.post(f"{route}/a.png", json={"removed": True})
    assert page.get("/internal/training/sets").json() == {"sets": {"cats": 0}}
    page.post(f"{route}/a.png", json={"removed": False})
    assert page.get("/internal/training/sets").json() == {"sets": {"cats": 1}}


def test_a_training_waits_in_the_queue_with_what_was_asked(page: TestClient, own: Service) -> None:
    add(page)
    order = {"client": ME, "set": "cats", "kind": "lora", "name": "kitty", "steps": 7, "side": 64, "rank": 3, "sample_every": 2}
    job = page.post("/internal/training", json=order).json()["job"]
    request = own.job(job).request
    assert isinstance(request, TrainingRequest)
    assert (request.kind, request.name, request.steps, request.width, request.rank, request.data_root, request.create) == (
        *("lora", "kitty", 7, 64, 3, "training/cats", True),
    )
    assert page.get(f"/internal/training/jobs?client={ME}").json()["jobs"][0]["name"] == "kitty"
    assert page.get("/internal/training/jobs?client=browser-two").json() == {"jobs": []}
    assert page.get(f"/internal/training/jobs/{job}?client=browser-two").status_code == 403


def test_an_aesthetic_embedding_is_ordered_with_its_pictures_alone(page: TestClient, own: Service) -> None:
    add(page)
    order = {"client": ME, "set": "cats", "kind": "aesthetic", "name": "soft light", "steps": 300, "checkpoint": "gone", "further": True}
    request = own.job(page.post("/internal/training", json=order).json()["job"]).request
    assert request == TrainingRequest(kind="aesthetic", name="soft light", create=True, data_root="training/cats")
    assert request.title == "Make aesthetic embedding soft light"


def test_losses_and_samples_are_those_that_the_job_has_told(page: TestClient, own: Service) -> None:
    add(page)
    job = page.post("/internal/training", json={"client": ME, "set": "cats", "kind": "lora", "name": "kitty", "side": 64}).json()["job"]
    route = f"/internal/training/jobs/{job}"
    assert page.get(f"{route}?client={ME}").json()["losses"] == []
    for name, data in (("losses.json", b'{"losses": [[1, 0.5]]}'), ("sample-20.webp", b"RIFF....WEBP"), ("sample-4.webp", b"RIFF....WEBP")):
        own.xrays.keep(job, Record(name, data))
    told = page.get(f"{route}?client={ME}").json()
    assert (told["losses"], told["samples"]) == ([[1, 0.5]], ["sample-4.webp", "sample-20.webp"])
    assert page.get(f"{route}/sample-4.webp?client={ME}").content == b"RIFF....WEBP"
    assert page.get(f"{route}/losses.json?client={ME}").status_code == 404
    assert page.get(f"/internal/xray?client={ME}").json()["xrays"] == []  # a training is no X-ray


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"set": "empty"}, "no picture to train on"),
        ({"steps": 0}, "use 1 or more"),
        ({"name": ""}, "has no name"),
        ({"rank": 0}, "out of range"),
        ({"side": 65}, "multiples of 8"),
        ({"set": "../x"}, "cannot be the name"),
    ],
)
def test_what_is_wrong_is_told_before_it_waits(page: TestClient, own: Service, changes: dict[str, object], sentence: str) -> None:
    add(page)
    answer = page.post("/internal/training", json={"client": ME, "set": "cats", "kind": "lora", "name": "kitty", "side": 64, **changes})
    assert sentence in answer.json()["errors"]
    assert own.jobs(ME) == []


def test_a_training_that_was_stopped_goes_on_with_the_steps_it_has_left(page: TestClient, own: Service) -> None:
    add(page)
    order = {"client": ME, "set": "cats", "kind": "lora", "name": "kitty", "side": 64, "steps": 9, "rank": 3}
    job = page.post("/internal/training", json=order).json()["job"]
    further = f"/internal/training/jobs/{job}/further?client={ME}"
    assert "only a training that was stopped" in page.post(further, json={}).json()["errors"]
    own.xrays.keep(job, Record("losses.json", b'{"losses": [[1, 0.5], [4, 0.4]]}'))
    own.interrupt(job, owner=ME)
    assert page.post(further.replace(ME, "browser-two"), json={}).status_code == 403
    request = own.job(page.post(further, json={}).json()["job"]).request
    assert isinstance(request, TrainingRequest)
    assert (request.create, request.steps, request.rank, request.name) == (False, 5, 3, "kitty")
