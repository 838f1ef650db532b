"""webui/api/v1/docs.py: the description as a page."""

import re
from html.parser import HTMLParser

import httpx


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "action")}


def test_every_route_and_shape_stands_on_the_page_which_asks_nobody_for_anything(http: httpx.Client) -> None:
    page = http.get("/docs")
    told = httpx.get(str(http.base_url).replace("/api/v1/", "/openapi.json")).json()
    for path, methods in told["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page.text
    parsed = Tags()
    parsed.feed(page.text)
    assert not parsed.tags & {"script", "link", "img", "iframe"}
    assert all(address.startswith("#") for address in parsed.addresses)
    shapes = set(re.findall(r'<section id="(\w+)">', page.text))
    assert {address[1:] for address in parsed.addresses} <= shapes
    assert {"NewJob", "Txt2Img", "InitImage", "JobOut", "Problem"} <= shapes
    assert "default-src 'none'" in page.headers["content-security-policy"]
