"""webui/api/v1/events.py: streams that can be cut off at any place."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import PATIENCE, holding, until
from tests.api.v1.conftest import data_folder, ended, submit
from webui.api.v1 import events
from webui.service.service import Service

Event = tuple[int, str, dict[str, Any]]


def read(reply: httpx.Response) -> Iterator[Event]:
    """(id, event, data) of each message."""
    message: dict[str, str] = {}
    for line in reply.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            message[name] = value
        else:
            if message:
                yield int(message["id"]), message["event"], json.loads(message["data"])
            message = {}


def jobs_told(told: list[Event]) -> list[tuple[str, str]]:
    return [(data["job"], data["status"]) for _, kind, data in told if kind == "job"]


def up_to(http: httpx.Client, job_id: str, **asked: Any) -> list[Event]:
    """What /events tells until this job has ended."""
    told = []
    with http.stream("GET", "/events", **asked) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for event in read(reply):
            told.append(event)
            if event[1] == "job" and event[2]["job"] == job_id and event[2]["status"] in ("done", "failed", "interrupted"):
                return told
    raise AssertionError("the stream ended")


def test_a_stream_tells_what_happens_from_now_on(http: httpx.Client) -> None:
    with http.stream("GET", "/events") as reply:
        messages = read(reply)
        _, kind, data = next(messages)
        assert (kind, data) == ("ready", {"cursor": data["cursor"]})
        job_id = submit(http)
        told = []
        for event in messages:
            told.append(event)
            if event[2].get("status") == "done":
                break
    assert jobs_told(told) == [(job_id, "queued"), (job_id, "running"), (job_id, "done")]
    assert "progress" in [kind for _, kind, _ in told]
    ids = [number for number, _, _ in told]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("by", ["cursor", "header"])
def test_whoever_was_cut_off_reads_on_without_a_gap_or_a_double(http: httpx.Client, by: str) -> None:
    cursor = http.get("/queue").json()["cursor"]
    ids = [submit(http, prompt=str(i)) for i in range(3)]
    whole = jobs_told(up_to(http, ids[-1], params={"cursor": cursor}))
    pieces: list[tuple[str, str]] = []
    while (ids[-1], "done") not in pieces:  # a connection that breaks after two events
        asked = {"params": {"cursor": cursor}} if by == "cursor" else {"headers": {"Last-Event-ID": str(cursor)}}
        with http.stream("GET", "/events", **asked) as reply:  # type: ignore[arg-type]
            for _, (number, kind, data) in zip(range(3), read(reply), strict=False):
                cursor = number
                if kind == "job":
                    pieces.append((data["job"], data["status"]))
                if (ids[-1], "done") in pieces:
                    break
    assert pieces == whole
    assert sorted(pieces) == sorted((job_id, state) for job_id in ids for state in ("queued", "running", "done"))


def test_one_jobs_stream_begins_with_how_it_stands_and_ends_with_it(http: httpx.Client, service: Service) -> None:
    job_id, other = submit(http, prompt="hold"), submit(http)
    holding(service)
    with http.stream("GET", f"/jobs/{job_id}/events") as reply:
        messages = read(reply)
        told = [next(messages)]
        (data_folder(service) / "go").touch()
        told += messages
    assert jobs_told(told)[0] == (job_id, "running")
    assert jobs_told(told)[-1] == (job_id, "done")
    assert {data.get("job", job_id) for _, _, data in told} == {job_id}
    ended(http, other)
    with http.stream("GET", f"/jobs/{job_id}/events") as reply:
        assert jobs_told(list(read(reply))) == [(job_id, "done")]
    assert http.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": str(told[-1][0])}).status_code == 204
    with http.stream("GET", f"/jobs/{job_id}/events", params={"cursor": told[0][0]}) as reply:
        assert jobs_told(list(read(reply)))[-1] == (job_id, "done")


def test_a_silent_stream_shows_that_it_lives(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    with http.stream("GET", "/events") as reply:
        lines = reply.iter_lines()
        assert ": still here" in [next(lines) for _ in range(8)]


def test_on_a_shared_server_a_stream_tells_of_own_jobs_only(ann: httpx.Client, bob: httpx.Client) -> None:
    cursor = ann.get("/queue").json()["cursor"]
    hers, his = submit(ann), submit(bob)
    ended(ann, hers)
    ended(bob, his)
    assert {job for job, _ in jobs_told(up_to(bob, his, params={"cursor": cursor}))} == {his}


def test_pausing_is_told_to_all(http: httpx.Client, bob: httpx.Client) -> None:
    with bob.stream("GET", "/events") as reply:
        messages = read(reply)
        next(messages)
        http.post("/queue/pause")
        assert next(messages)[1:] == ("queue", {"paused_all": True})


def test_a_wrong_cursor_is_refused_and_a_strange_header_is_not_read(http: httpx.Client) -> None:
    assert http.get("/events", params={"cursor": -1}).status_code == 422
    with http.stream("GET", "/events", headers={"Last-Event-ID": "x"}) as reply:
        assert next(read(reply))[1] == "ready"


def started(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """A server in a process of its own, which answers."""
    process = subprocess.Popen([sys.executable, "-m", "tests.api.v1.server", str(folder), str(port)], cwd=Path(__file__).parents[3])

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/api/v1/queue").status_code == 200
        return False

    until(answers)
    return process


def test_a_stream_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    told: list[Event] = []
    process = started(tmp_path, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=PATIENCE) as http:
        with http.stream("GET", "/events") as reply:
            messages = read(reply)
            told.append(next(messages))
            ids = [submit(http, prompt="hold", seed=i) for i in range(3)]
            for event in messages:
                told.append(event)
                if (ids[2], "queued") in jobs_told(told) and (ids[0], "running") in jobs_told(told):
                    break
        process.kill()
        process.wait()
        (tmp_path / "go").touch()
        process = started(tmp_path, port)
        told += [event for event in up_to(http, ids[2], headers={"Last-Event-ID": str(told[-1][0])}) if event[1] != "ready"]
    process.terminate()
    process.wait(PATIENCE)
    numbers = [number for number, _, _ in told]
    assert numbers == sorted(set(numbers))
    for job_id in ids:
        states = [state for job, state in jobs_told(told) if job == job_id]
        assert states[0] == "queued"
        assert states.count("done") == 1
        assert states[-1] == "done"
