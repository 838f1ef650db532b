"""A service of its own, whose queue may be paused, behind a real server on a socket: events are streams without an end."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.api.conftest import FACTORY, PATIENCE, until
from webui.api.v1 import v1_router
from webui.core.settings import Settings, parse_flags
from webui.service.service import Service, open_service

SMALL = {"kind": "txt2img", "width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """For the user of this machine, who needs no password."""
    folder = tmp_path_factory.mktemp("v1")
    path = folder / "models/Stable-diffusion/alpha.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"alpha" * 50)
    return replace(parse_flags(["--data-dir", str(folder), "--ckpt", "alpha"], {}), builtin_checkpoint=folder / "none.safetensors")


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[Service]:
    running = open_service(settings, FACTORY)
    running.start()
    yield running
    running.stop()


def serving(service: Service, settings: Settings) -> Iterator[str]:
    """The address of a server until the end."""
    app = FastAPI()
    app.include_router(v1_router(service, settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def address(service: Service, settings: Settings) -> Iterator[str]:
    yield from serving(service, settings)


@pytest.fixture
def http(address: str, service: Service) -> Iterator[httpx.Client]:
    """The user of this machine, who manages all jobs; nothing waits or runs afterwards."""
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        yield client
    service.queue.resume(None)
    for job in service.jobs():
        service.interrupt(job.id)
    until(lambda: not service.jobs())
    for name in ("go", "holding"):
        (service.settings.data_dir / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def shared_address(service: Service, settings: Settings) -> Iterator[str]:
    """The same service, served to several people."""
    users = (("ann", "very-secret"), ("bob", "also-secret"))
    yield from serving(service, replace(settings, host="0.0.0.0", gradio_auth=users, api_auth=users))


@pytest.fixture
def ann(shared_address: str, http: httpx.Client) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_address, auth=("ann", "very-secret"), timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def bob(shared_address: str, http: httpx.Client) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_address, auth=("bob", "also-secret"), timeout=PATIENCE) as client:
        yield client


def submit(http: httpx.Client, **fields: object) -> str:
    """Queue a small picture; returns the job's id."""
    reply = http.post("/jobs", json={"request": {**SMALL, **fields}})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def status(http: httpx.Client, job_id: str) -> str:
    return str(http.get(f"/jobs/{job_id}").json()["status"])


def ended(http: httpx.Client, job_id: str) -> dict[str, object]:
    """The job once it has ended."""
    until(lambda: status(http, job_id) in ("done", "failed", "interrupted"))
    found: dict[str, object] = http.get(f"/jobs/{job_id}").json()
    return found


def data_folder(service: Service) -> Path:
    return service.settings.data_dir
