"""The documentation pages: every route and shape, nothing from elsewhere, all text escaped."""

import re
from html.parser import HTMLParser

from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.api import schemas as wire
from webui.api.docs import add_docs_route, page


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "action")}


def check(text: str, description: dict) -> set[str]:
    """Every route is there, and every shape that is named; returns the addresses that lead away."""
    for path, methods in description["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in text
    parsed = Tags(text)
    assert not parsed.tags & {"script", "link", "img", "iframe"}
    inside = {address[1:] for address in parsed.addresses if address.startswith("#")}
    assert inside <= set(re.findall(r'<section id="(\w+)">', text))
    return {address for address in parsed.addresses if not address.startswith("#")}


def test_every_route_and_field_is_on_the_page_and_nothing_from_elsewhere(app: FastAPI) -> None:
    served = FastAPI(docs_url=None)
    add_docs_route(served.router)
    served.include_router(app.router)
    reply = TestClient(served).get("/docs")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert check(reply.text, served.openapi()) == {"openapi.json"}
    for name in wire.Img2Img.model_fields:
        assert f"<code>{name}</code>" in reply.text
    assert "<td>integer<td class=quiet>50" in reply.text


def test_text_of_the_description_is_never_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    told = {"description": evil, "parameters": [{"name": evil, "schema": {"type": evil, "default": evil}}]}
    made = page({"paths": {evil: {"get": told}}})
    assert "<img" not in made
    assert made.count("&lt;img") == 4


def test_a_part_of_the_routes_has_a_page_of_its_own(app: FastAPI) -> None:
    made = page(app.openapi(), "/sdapi/v1/png")
    assert "POST /sdapi/v1/png-info" in made
    assert "txt2img" not in made
