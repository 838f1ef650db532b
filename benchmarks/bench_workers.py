"""Two workers against one, on the CPU with the miniature: pictures in the same time. `make bench-workers` (about two minutes)."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import write
from webui.core.request import GenerationRequest
from webui.core.settings import parse_flags
from webui.service.service import Service, open_service

PICTURES, LONG = 8, 600.0  # LONG: seconds until a picture is given up
REQUEST = GenerationRequest(prompt="a red circle on a blue background", width=128, height=128, steps=20, sampler="Euler")


def seconds(*flags: str) -> float:
    """From the first request to the last picture, once all workers are warm."""
    with tempfile.TemporaryDirectory() as data:
        service = open_service(parse_flags(["--data-dir", str(Path(data)), "--use-cpu", *flags], {}), "webui.build:make_handlers")
        service.start()
        try:
            wait_until(lambda: all(device.state == "ready" for device in service.status.now().devices))
            make(service, 2)
            begin = time.perf_counter()
            make(service, PICTURES)
            return time.perf_counter() - begin
        finally:
            service.stop()


def make(service: Service, count: int) -> None:
    for job_id in [service.submit(REQUEST) for _ in range(count)]:
        job = service.wait(job_id, LONG)
        assert job.status == "done", job.text


def wait_until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.05)


def main() -> None:
    one = seconds()
    two = seconds("--workers", "2")
    actors = seconds("--ray", "--workers", "2")
    os.environ["OMP_NUM_THREADS"] = "1"
    single = seconds()
    write(
        [
            (
                f"{PICTURES} pictures by two workers of a core each ÷ by one worker of a core",
                f"{two / single:.2f} ({two:.1f} s / {single:.1f} s)",
                "≤ 0.6",
            ),
            (
                f"{PICTURES} pictures by two workers of a core each ÷ by one worker of both cores",
                f"{two / one:.2f} ({two:.1f} s / {one:.1f} s)",
                "",
            ),
            (f"{PICTURES} pictures by two Ray actors ÷ by two workers", f"{actors / two:.2f} ({actors:.1f} s / {two:.1f} s)", "≤ 1.1"),
        ]
    )


if __name__ == "__main__":
    main()
