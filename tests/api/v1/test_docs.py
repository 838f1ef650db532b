"""/api/v1/docs: the description of this API alone."""

import httpx

from tests.api.test_docs import check


def test_every_route_and_shape_stands_on_the_page_which_asks_nobody_for_anything(http: httpx.Client) -> None:
    page = http.get("/docs")
    told = httpx.get(str(http.base_url).replace("/api/v1/", "/openapi.json")).json()
    assert check(page.text, told) == set()
    assert all(f'<section id="{name}">' in page.text for name in ("NewJob", "Txt2Img", "InitImage", "JobOut", "Problem"))
    assert "default-src 'none'" in page.headers["content-security-policy"]
