"""webui/api/mcp.py: an assistant's client starts it as a program and draws with the real server and the miniature."""

import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from tests.api.conftest import PATIENCE, png
from tests.judge import judge

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "ann:very-secret"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Easel as its user starts it, with a password."""
    folder, port = tmp_path_factory.mktemp("mcp"), free_port()
    flags = ["--nowebui", "--port", str(port), "--data-dir", str(folder), "--api-auth", PASSWORD]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "app.py", *flags], cwd=ROOT, stdout=log, stderr=log)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(f"http://127.0.0.1:{port}/internal/ping", timeout=5):
                break
        except (URLError, ConnectionError):
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def calls(url: str, *wanted: tuple[str, dict[str, Any]], auth: str = PASSWORD) -> list[Any]:
    """What the tools answer when a client starts the program and calls them one after another; first the list of tools."""
    program = StdioServerParameters(
        command=sys.executable, args=["-m", "webui.api.mcp", "--url", url], cwd=ROOT, env={**os.environ, "EASEL_AUTH": auth}
    )

    async def talk() -> list[Any]:
        async with Client(stdio_client(program)) as client:
            return [await client.list_tools(), *[await client.call_tool(name, values) for name, values in wanted]]

    return anyio.run(talk)


def picture_in(result: Any) -> tuple[int, bytes, str]:
    """(id, file, infotext) of the one picture that a tool brings."""
    assert not result.is_error, result.content
    text, image = result.content
    first, _, infotext = text.text.partition("\n")
    assert image.mime_type == "image/png"
    return int(first.removeprefix("Picture ")), base64.b64decode(image.data), infotext


def test_an_assistant_draws_redraws_and_reads(url: str) -> None:
    wanted = {"prompt": "a red circle on a blue background", "seed": 3, "steps": 12}
    tools, drawn = calls(url, ("txt2img", wanted))
    assert {tool.name for tool in tools.tools} == {"txt2img", "img2img", "png_info"}
    assert all(tool.description for tool in tools.tools)
    picture, data, infotext = picture_in(drawn)
    seen = judge(Image.open(io.BytesIO(data)))
    assert (seen.object, seen.colour, seen.background) == ("circle", "red", "blue")
    again = {"prompt": "a red circle on a yellow background", "picture": picture, "denoising_strength": 1.0, "seed": 3, "steps": 12}
    _, redrawn, by_id, by_data = calls(
        url, ("img2img", again), ("png_info", {"picture": picture}), ("png_info", {"data": base64.b64encode(data).decode()})
    )
    seen = judge(Image.open(io.BytesIO(picture_in(redrawn)[1])))
    assert (seen.object, seen.background) == ("circle", "yellow")
    assert by_id.content[0].text == by_data.content[0].text == infotext


def test_mistakes_are_sentences(url: str, tmp_path: Path) -> None:
    odd = tmp_path / "a.png"
    odd.write_bytes(base64.b64decode(png()))
    _, wrong, none, two, bad, missing, silent = calls(
        url,
        ("txt2img", {"prompt": "x", "width": 65}),
        ("img2img", {"prompt": "x"}),
        ("png_info", {"picture": 1, "data": "x"}),
        ("png_info", {"data": "§"}),
        ("png_info", {"file": str(tmp_path / "none.png")}),
        ("png_info", {"file": str(odd)}),
    )
    for result, told in (
        (wrong, "width 65 is not a multiple of 8"),
        (none, "name one picture"),
        (two, "name one picture"),
        (bad, "not base64"),
        (missing, "cannot be read"),
    ):
        assert result.is_error
        assert told in result.content[0].text
    assert silent.content[0].text == "This picture says nothing of how it was made."


def test_a_wrong_password_and_a_wrong_address_are_told(url: str) -> None:
    (_, refused) = calls(url, ("txt2img", {"prompt": "x"}), auth="ann:wrong")
    assert refused.is_error
    assert "user and password" in refused.content[0].text
    (_, nobody) = calls("http://127.0.0.1:9", ("txt2img", {"prompt": "x"}))
    assert "no Easel answers at http://127.0.0.1:9" in nobody.content[0].text
