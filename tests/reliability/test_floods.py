"""Row 23 of docs/reliability.md: floods slow nobody down for long, and the queue is bounded."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from websockets.sync.client import connect

from tests.reliability.live import PATIENCE, SMALL, Live, serving
from tests.service.conftest import settings_for, until
from tests.service.handlers import small
from webui.api import routes, waiting
from webui.core.catalog import Catalog
from webui.service.database import open_database
from webui.service.service import Service, open_service

SOON = 5.0  # seconds in which somebody else must be answered, all the while
SLOWER = 20  # or this many times what a server takes meanwhile that nobody floods: the machine may have other work


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that nobody floods."""
    with serving(tmp_path_factory.mktemp("calm"), "-m", "tests.reliability.light") as live:
        yield live


@contextmanager
def answering(live: Live, calm: Live) -> Iterator[None]:
    """Somebody else asks every 0.2 seconds and is answered as soon as by `calm`, a server that nobody floods, or within SOON."""
    stop = threading.Event()

    def ask(server: Live) -> list[float]:
        waits = []
        with server.http() as http:
            while not stop.wait(0.2) or not waits:
                begin = time.monotonic()
                assert http.get("/sdapi/v1/progress").status_code == 200
                waits.append(time.monotonic() - begin)
        return waits

    with ThreadPoolExecutor(2) as pool:
        asking, control = pool.submit(ask, live), pool.submit(ask, calm)
        try:
            yield
            time.sleep(0.5)
        finally:
            stop.set()
        assert max(asking.result(PATIENCE)) <= max(SOON, SLOWER * max(control.result(PATIENCE)))


def test_slow_requests_keep_nobody_waiting(light: Live, calm: Live) -> None:
    """Slowloris: hundreds of requests whose heads and bodies never end."""
    heads = (b"GET /sdapi/v1/options HTTP/1.1\r\nHost: localhost\r\nX-", b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\n")
    bodies = b"POST /sdapi/v1/png-info HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
    with answering(light, calm):
        sockets = [socket.create_connection(("127.0.0.1", light.port)) for _ in range(200)]
        for i, each in enumerate(sockets):
            each.sendall((*heads, bodies)[i % 3])
        time.sleep(1)
        for each in sockets:
            each.sendall(b"a")
        time.sleep(1)
        for each in sockets:
            each.close()
    until(lambda: light.handles() < 150)


def test_large_bodies_are_taken_or_refused_and_given_back(light: Live, calm: Live) -> None:
    body = json.dumps({"image": "A" * 64 * 2**20})
    before = light.memory()
    with answering(light, calm), light.http() as http:
        for _ in range(3):
            answer = http.post("/sdapi/v1/png-info", content=body, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500
    assert light.memory() - before < 2**30


def test_thousands_of_ranges_are_answered_at_once(light: Live, calm: Live) -> None:
    light.draw(save_images=True)
    ranges = "bytes=" + ",".join(f"{i}-{i + 1}" for i in range(0, 6000, 2))
    with answering(light, calm), light.http() as http:
        for _ in range(20):
            answer = http.get("/internal/pictures/1", headers={"Range": ranges})
            assert answer.status_code in (200, 206, 400, 404, 416, 431)


def test_requests_beyond_those_that_may_wait_are_told_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST", 5)
    settings = settings_for(tmp_path)
    service = open_service(settings, "tests.service.handlers:make")
    app = FastAPI()
    app.include_router(routes.sdapi_router(service, settings))
    service.start()
    try:
        with TestClient(app) as http, ThreadPoolExecutor(20) as pool:
            sent = [pool.submit(http.post, "/sdapi/v1/txt2img", json=SMALL | {"prompt": "hold"}) for _ in range(20)]
            try:
                until(lambda: sum(each.done() for each in sent) == 15)
            finally:
                (tmp_path / "go").touch()
            assert sorted(each.result(PATIENCE).status_code for each in sent) == [200] * 5 + [503] * 15
            assert http.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
    finally:
        service.stop()


def test_a_full_queue_is_a_503(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    database, _ = open_database(settings.database)
    service = Service(
        settings, Catalog(settings), "tests.service.handlers:make", database=database, queue_limit=3
    )  # its worker never starts
    app = FastAPI()
    app.include_router(routes.sdapi_router(service, settings))
    for _ in range(3):
        service.submit(small())
    with TestClient(app) as http:
        answer = http.post("/sdapi/v1/txt2img", json=SMALL)
    service.stop()
    assert answer.status_code == 503
    assert "the queue is full: 3 jobs wait" in answer.json()["detail"]


def test_many_open_pages_are_served(light: Live, calm: Live) -> None:
    with answering(light, calm), ExitStack() as pages:
        opened = [pages.enter_context(connect(f"ws://127.0.0.1:{light.port}/internal/ws/client{i:05d}")) for i in range(50)]
        assert all(json.loads(each.recv(PATIENCE))["hello"] for each in opened)
