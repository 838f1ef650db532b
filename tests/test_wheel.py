"""The wheel, installed where nothing of the checkout is seen: it starts, prints its address and makes pictures with what it carries."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from pathlib import Path

import pytest

from tests.browser.conftest import free_port
from tests.judge import judge
from tests.test_app import REQUEST, ROOT, picture_of, post, wait_for

BUILD = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir")
INSTALL = ("install", "--quiet", "--no-deps", "--no-index")


@pytest.fixture
def easel(tmp_path: Path) -> Path:
    """The command of that name in a new venv, which holds the wheel and sees what requirements.txt names; but not the checkout."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, *BUILD, str(tmp_path), str(ROOT)], check=True, timeout=300)
    [wheel] = tmp_path.glob("easel-*.whl")
    home = tmp_path / "venv"
    venv.create(home)
    subprocess.run([*pip, "--python", str(home), *INSTALL, str(wheel)], check=True, timeout=300)
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin" / "easel"


def test_a_wheel_in_a_clean_venv_starts_prints_its_address_and_makes_a_picture(easel: Path, tmp_path: Path) -> None:
    log, url = tmp_path / "server.log", f"http://127.0.0.1:{free_port()}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"HOME": str(tmp_path)}
    with log.open("wb") as output:
        command = [easel, "--port", url.rpartition(":")[2], "--use-cpu"]
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        wait_for(f"{url}/healthz", server)
        page = urllib.request.urlopen(f"{url}/", timeout=200).read().decode()
        [checkpoint] = json.load(urllib.request.urlopen(f"{url}/sdapi/v1/sd-models", timeout=200))
        seen = judge(picture_of(post(f"{url}/sdapi/v1/txt2img", REQUEST | {"save_images": True})))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(200)
    assert f"Easel answers at {url}\n" in log.read_text("utf-8")
    assert "class GalleryView" in page  # its scripts came along
    assert (seen.colour, seen.object, seen.background) == ("red", "circle", "blue")
    assert Path(checkpoint["filename"]).is_relative_to(easel.parents[1])  # the wheel's own, not the checkout's
    assert len(list((tmp_path / "easel/outputs").rglob("*.png"))) == 1  # where a user of the wheel finds what they made
