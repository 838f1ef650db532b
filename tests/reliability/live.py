"""A server in a process of its own, and how to speak with it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 250.0  # seconds until a test gives up waiting for an answer; never a measure of speed
PATIENCE = 300.0  # seconds until a test gives up waiting for an answer; never a measure of speed
OWNER = ("ann", "a-very-long-secret")
LIGHT = ("-m", "tests.reliability.light")
SMALL = {"prompt": "a red circle", "steps": 1, "width": 64, "height": 64}


@dataclass(frozen=True)
class Live:
    """A server that answers."""

    port: int
    data_dir: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(**{"base_url": self.url, "timeout": PATIENCE} | options)

    def draw(self, **fields: Any) -> httpx.Response:
        """POST /sdapi/v1/txt2img, small unless told otherwise."""
        return httpx.post(f"{self.url}/sdapi/v1/txt2img", json=SMALL | fields, timeout=PATIENCE)

    def memory(self) -> int:
        """Bytes that server and worker hold."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)

    def processor_time(self) -> float:
        """Seconds that the server, without its worker, has worked."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def handles(self) -> int:
        """Open files and sockets of server and worker."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return sum(process.num_fds() for process in processes)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[Live]:
    """A server whose data lie in `folder`/data, ended with the block; none named: the one without torch, without a password."""
    port, log = free_port(), folder / "server.log"
    words = [sys.executable, *(command or LIGHT), "--port", str(port), "--data-dir", str(folder / "data")]
    with log.open("ab") as output:
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output, env=os.environ | {"COMMANDLINE_ARGS": ""})
    live = Live(port, folder / "data", log, process)
    try:
        _wait_for(live)
        yield live
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_for(live: Live) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and live.process.poll() is None:
        try:
            if httpx.get(f"{live.url}/internal/ping", timeout=30).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"the server did not start:\n{live.log.read_text('utf-8', 'replace')[-3000:]}")
