"""webui/api/mcp_http.py: an assistant's client draws over streamable HTTP with the real server and the miniature, through the guard."""

import base64
import io
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from tests.api.conftest import PATIENCE
from tests.api.test_mcp import picture_in, url
from tests.judge import judge
from webui.api import mcp_http

__all__ = ["url"]  # the fixture
OWNER = ("ann", "very-secret")
PLACE = "/api/v1/mcp"


def calls(url: str, *wanted: tuple[str, dict[str, Any]]) -> list[Any]:
    """The list of tools, then what each call answers."""

    async def talk() -> list[Any]:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(auth=OWNER, timeout=PATIENCE))
            client = await stack.enter_async_context(Client(streamable_http_client(url + PLACE, http_client=http)))
            return [await client.list_tools(), *[await client.call_tool(name, values) for name, values in wanted]]

    return anyio.run(talk)


def test_an_assistant_draws_redraws_and_reads_over_http(url: str, tmp_path: Path) -> None:
    wanted = {"prompt": "a red circle on a blue background", "seed": 3, "steps": 12}
    tools, drawn = calls(url, ("txt2img", wanted))
    assert {tool.name for tool in tools.tools} == {"txt2img", "img2img", "png_info"}
    picture, data, infotext = picture_in(drawn)
    seen = judge(Image.open(io.BytesIO(data)))
    assert (seen.object, seen.colour, seen.background) == ("circle", "red", "blue")
    (tmp_path / "a.png").write_bytes(data)
    _, again, told, wrong, of_the_server = calls(
        url,
        ("img2img", {"prompt": "x", "data": base64.b64encode(data).decode(), "denoising_strength": 0.1, "seed": 3, "steps": 4}),
        ("png_info", {"picture": picture}),
        ("txt2img", {"prompt": "x", "width": 65}),
        ("png_info", {"file": str(tmp_path / "a.png")}),
    )
    assert picture_in(again)[0] == picture + 1
    assert told.content[0].text == infotext
    assert wrong.is_error
    assert "width 65 is not a multiple of 8" in wrong.content[0].text
    assert of_the_server.is_error
    assert "send the picture as data" in of_the_server.content[0].text


@pytest.mark.parametrize(
    ("more", "status"),
    [({"auth": None}, 401), ({"auth": ("ann", "wrong")}, 401), ({"headers": {"Origin": "http://evil.example"}}, 403)],
)
def test_the_guard_stands_before_the_tools(url: str, more: dict[str, Any], status: int) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    assert httpx.post(url + PLACE, json=asked, timeout=PATIENCE, **({"auth": OWNER} | more)).status_code == status


def test_there_is_no_stream_to_wait_on(url: str) -> None:
    assert httpx.get(url + PLACE, auth=OWNER, timeout=PATIENCE).status_code == 405


def test_without_the_package_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    app.router.routes.append(mcp_http.mcp_route(app))
    monkeypatch.setattr(mcp_http.importlib.util, "find_spec", lambda name: None)
    answer = TestClient(app).post(PLACE, content=json.dumps({}))
    assert (answer.status_code, "pip install 'mcp" in answer.json()["errors"]) == (501, True)
