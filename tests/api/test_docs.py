"""The documentation page: every route and field, nothing from elsewhere, all text escaped."""

import re

from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.api import schemas as wire
from webui.api.docs import docs_router, page


def test_every_route_and_field_is_on_the_page_and_nothing_from_elsewhere(app: FastAPI) -> None:
    served = FastAPI(docs_url=None)
    served.include_router(docs_router(app))
    reply = TestClient(served).get("/docs")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for path in app.openapi()["paths"]:
        assert f"<code>{path}</code>" in reply.text
    for name in wire.Img2Img.model_fields:
        assert f"<code>{name}</code>" in reply.text
    assert "<td>integer<td><code>50</code>" in reply.text
    assert re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", reply.text) == ["openapi.json"]
    assert "<script" not in reply.text


def test_text_of_the_description_is_never_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    told = {"description": evil, "parameters": [{"name": evil, "schema": {"type": evil, "default": evil}}]}
    made = page({"paths": {evil: {"get": told}}})
    assert "<img" not in made
    assert made.count("&lt;img") == 5
