"""The whole of Easel in processes of its own, as a user starts it."""

import base64
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.judge import judge

ROOT = Path(__file__).parent.parent
BLOCKER = """
import socket
connect = socket.socket.connect
def local_only(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        open({log!r}, "a").write(repr(address) + chr(10))
        raise OSError("no network in this test")
    return connect(self, address)
socket.socket.connect = socket.socket.connect_ex = local_only
resolve = socket.getaddrinfo
def local_names(host, *rest, **more):
    if host not in (None, "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        open({log!r}, "a").write(repr(host) + chr(10))
        raise socket.gaierror("no network in this test")
    return resolve(host, *rest, **more)
socket.getaddrinfo = local_names
"""


@pytest.fixture(scope="module")
def offline_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Easel with an empty data folder, in processes that cannot reach any other machine: its URL, and the log of their attempts."""
    folder = tmp_path_factory.mktemp("offline")
    log = folder / "attempts.log"
    (folder / "sitecustomize.py").write_text(BLOCKER.format(log=str(log)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "app.py", "--port", str(port), "--data-dir", str(folder / "data"), "--use-cpu"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", server)
        yield f"http://127.0.0.1:{port}", log
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(200)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        assert server.poll() is None, "app.py ended"
        try:
            urllib.request.urlopen(url, timeout=200).read()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("app.py did not answer")


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=200) as answer:
        return json.load(answer)


def picture_of(answer: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))


REQUEST = {"prompt": "a red circle on a blue background", "steps": 20, "width": 128, "height": 128, "seed": 1}


def test_the_page_and_a_picture_are_made_without_any_network(offline_server: tuple[str, Path]):
    url, log = offline_server
    page = urllib.request.urlopen(f"{url}/", timeout=200).read().decode()
    hosts = set(re.findall(r"(?:src|href)=[\"'](?:https?:)?//([^/\"']+)", page))
    assert hosts == set()
    seen = judge(picture_of(post(f"{url}/sdapi/v1/txt2img", REQUEST)))
    assert (seen.colour, seen.object, seen.background) == ("red", "circle", "blue")
    assert not log.exists(), log.read_text()


def test_the_network_block_of_the_test_above_holds(offline_server: tuple[str, Path], tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(log=str(tmp_path / "log")))
    code = "import urllib.request; urllib.request.urlopen('http://easel.example/', timeout=3)"
    failed = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True)
    assert failed.returncode != 0
    assert (tmp_path / "log").exists()


def test_the_same_request_gives_the_same_bytes(offline_server: tuple[str, Path]):
    url, _ = offline_server
    first, second = (post(f"{url}/sdapi/v1/txt2img", REQUEST | {"sampler_name": "Euler a"})["images"][0] for _ in range(2))
    assert first == second  # the files, with all that they say about themselves


def test_the_miniature_is_offered_with_an_empty_data_folder(offline_server: tuple[str, Path]):
    url, _ = offline_server
    models = json.load(urllib.request.urlopen(f"{url}/sdapi/v1/sd-models", timeout=200))
    assert [model["model_name"] for model in models] == ["easel-miniature"]


def test_a_taken_port_is_told_in_a_sentence(offline_server: tuple[str, Path], tmp_path: Path):
    port = offline_server[0].rpartition(":")[2]
    ended = subprocess.run(
        [sys.executable, "app.py", "--port", port, "--data-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode != 0
    assert f"cannot serve on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_another_easel_uses_is_told_in_a_sentence(offline_server: tuple[str, Path]):
    folder = str(offline_server[1].parent / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), "--data-dir", folder]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0
    assert f"another Easel already uses {folder}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_request_that_waits_while_the_server_is_told_to_stop_gets_a_503_and_its_job_is_done_later(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "app.py", "--nowebui", "--port", str(port), "--data-dir", str(tmp_path), "--use-cpu"]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(f"{url}/healthz", server)
        refused: list[urllib.error.HTTPError] = []

        def ask() -> None:
            with pytest.raises(urllib.error.HTTPError) as caught:
                post(f"{url}/sdapi/v1/txt2img", REQUEST | {"steps": 1000})
            refused.append(caught.value)

        waiting = threading.Thread(target=ask)
        waiting.start()
        while not json.load(urllib.request.urlopen(f"{url}/sdapi/v1/progress", timeout=200))["progress"]:
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        waiting.join(200)
        assert refused[0].code == 503
        assert "goes on after the next start" in json.load(refused[0])["detail"]
        server.wait(200)
        assert sqlite3.connect(tmp_path / "easel.sqlite3").execute("SELECT status FROM jobs").fetchall() == [("queued",)]
    finally:
        server.kill()
        server.wait()


def test_a_ckpt_that_is_not_there_is_told_in_a_sentence(tmp_path: Path):
    command = [sys.executable, "app.py", "--port", "7999", "--data-dir", str(tmp_path), "--ckpt", "nowhere.safetensors"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0
    assert "nowhere.safetensors" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ray_that_is_not_installed_is_told_in_a_sentence(tmp_path: Path):
    code = (
        "import importlib.util as util, sys; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'ray' else find(name, *rest)\n"
        f"sys.argv = ['app.py', '--ray', '--port', '7998', '--data-dir', {str(tmp_path)!r}]\n"
        "import app; app.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0
    assert "pip install ray" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_api_restarts_and_stops_the_server(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    flags = ["--nowebui", "--api-server-stop", "--port", str(port), "--data-dir", str(tmp_path), "--use-cpu"]
    server = subprocess.Popen([sys.executable, "app.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(f"{url}/healthz", server)
        assert urllib.request.urlopen(f"{url}/sdapi/v1/server-restart", b"", timeout=200).read() == b"Restarting."
        told = [server.stdout.readline() for _ in range(2)]
        assert told == [f"Easel answers at {url}\n"] * 2
        wait_for(f"{url}/healthz", server)
        assert urllib.request.urlopen(f"{url}/sdapi/v1/server-stop", b"", timeout=200).read() == b"Stopping."
        assert server.wait(200) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
