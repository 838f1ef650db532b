"""Starts the whole of Easel as a user does and times it from outside."""

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REQUEST = {"prompt": "a red circle on a blue background", "steps": 20, "width": 128, "height": 128, "sampler_name": "Euler", "seed": 1}


@dataclass(frozen=True)
class Served:
    """Seconds: from start to the page's answer, from start to the first picture, and per picture once warm."""

    page: float
    first_picture: float
    picture: float


def serve_and_measure(root: Path, rounds: int) -> Served:
    """Run app.py with an empty data folder and ask it for pictures through /sdapi/v1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "app.py", "--port", str(port), "--data-dir", data]
        begin = time.perf_counter()
        server = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
        try:
            _wait_for(f"{url}/", server)
            page = time.perf_counter() - begin
            _picture(url)
            first = time.perf_counter() - begin
            times = []
            for _ in range(rounds):
                start = time.perf_counter()
                _picture(url)
                times.append(time.perf_counter() - start)
        finally:
            server.terminate()
            server.wait(30)
    return Served(page, first, statistics.median(times))


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if server.poll() is not None:
            raise RuntimeError(f"app.py ended with {server.returncode} before it answered")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError("app.py did not answer within a minute")


def _picture(url: str) -> None:
    body = json.dumps({**REQUEST, "save_images": True}).encode()
    request = urllib.request.Request(f"{url}/sdapi/v1/txt2img", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert len(json.load(answer)["images"]) == 1
