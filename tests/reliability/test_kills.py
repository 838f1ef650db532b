"""Row 25 of docs/reliability.md, at its narrowest: worker, server or both are killed while pictures are being saved."""

import os
import signal
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from tests.reliability.live import LIGHT, PATIENCE, Live, serving
from webui.core.image_metadata import open_image, read_infotext

JOBS = 2
PICTURES = 8  # of each job
ORDER = {"kind": "txt2img", "prompt": "x", "steps": 1, "width": 512, "height": 512, "batch_size": 4, "batch_count": 2}


@pytest.mark.parametrize(
    "killed", [pytest.param(("worker",), marks=pytest.mark.slow), pytest.param(("server",), marks=pytest.mark.slow), ("worker", "server")]
)
def test_what_is_killed_while_it_saves_has_each_picture_once_after_the_restart(tmp_path: Path, killed: tuple[str, ...]) -> None:
    with serving(tmp_path, *LIGHT, "--nowebui") as live:
        for number in range(JOBS):
            body = {"id": str(number), "request": {**ORDER, "seed": number * 100}}
            assert httpx.post(f"{live.url}/api/v1/jobs", json=body, timeout=PATIENCE).status_code == 202
        wait_for_saving(live)
        pids = {"worker": int((live.data_dir / "worker.pid").read_text()), "server": live.process.pid}
        for name in killed:
            os.kill(pids[name], signal.SIGKILL)
        if "server" not in killed:
            check_jobs(live)
    with serving(tmp_path, *LIGHT, "--nowebui") as live:
        check_jobs(live)
    check_folder(live.data_dir)


def wait_for_saving(live: Live) -> None:
    end = time.monotonic() + PATIENCE
    with live.http() as http:
        while time.monotonic() < end:
            states = [job["status"] for job in http.get("/api/v1/jobs").json()["jobs"]]
            if "saving" in states:
                return
            assert set(states) != {"done"}, "all was saved before anybody looked"
    raise AssertionError("nothing was saved")


def check_jobs(live: Live) -> None:
    """Each job ends as if nothing had happened: same seeds, none missing, none twice."""
    with live.http() as http:
        for number in range(JOBS):
            job = http.get(f"/api/v1/jobs/{number}").json()
            while job["status"] not in ("done", "failed", "interrupted"):
                time.sleep(0.05)
                job = http.get(f"/api/v1/jobs/{number}").json()
            seeds = [picture["seed"] for picture in job["pictures"]]
            assert (job["status"], seeds) == ("done", list(range(number * 100, number * 100 + PICTURES))), job["error"]


def check_folder(folder: Path) -> None:
    """Files and rows are the same, and every file is whole."""
    connection = sqlite3.connect(folder / "easel.sqlite3")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = dict(connection.execute("SELECT path, infotext FROM pictures"))
    connection.close()
    files = {str(path.relative_to(folder / "outputs")): path for path in (folder / "outputs").rglob("*") if path.is_file()}
    assert files.keys() == rows.keys()
    assert len(files) == JOBS * PICTURES
    for name, path in files.items():
        open_image(path.read_bytes()).load()
        assert read_infotext(path).text == rows[name]
