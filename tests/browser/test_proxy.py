"""The page below a path of its own, behind a real reverse proxy that strips the prefix, behind one that keeps it, and without any."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person, free_port, serving
from tests.browser.proxy import proxy_to


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that lives below /tools/easel."""
    port = free_port()
    with serving(tmp_path_factory.mktemp("below"), port, "--use-cpu", "--subpath", "/tools/easel/"):
        yield port


OTHERS = [pytest.param(way, marks=pytest.mark.slow) for way in ("a proxy that keeps it", "no proxy")]


@pytest.mark.parametrize("way", ["a proxy that strips the prefix", *OTHERS])
def test_a_page_below_a_prefix_makes_pictures_and_shows_them(below: int, browser: Browser, way: str) -> None:
    with proxy_to(below, "/tools/easel" if "strips" in way else "") as proxy:
        base = f"http://127.0.0.1:{below}" if way == "no proxy" else proxy.address
        context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
        person = Person(context, f"{base}/tools/easel/")
        page = person.page
        person.write("txt2img_steps", 2)
        person.make_picture("txt2img")  # by the WebSocket, which tells of the job, and a file
        assert (
            page.locator("#txt2img_results .view").get_attribute("src", timeout=5000).startswith(f"{base}/tools/easel/internal/pictures/")
        )  # type: ignore[union-attr]
        page.click("#txt2img_send_to_img2img")  # an upload
        page.wait_for_function("Boolean(easel.canvases.img2img.hash)")
        person.open("gallery")
        page.locator("#gallery_grid .shot img").first.wait_for()
        context.close()
    assert person.complaints == []


def test_what_lies_beside_the_prefix_is_not_asked_for(below: int, browser: Browser) -> None:
    with proxy_to(below, "/tools/easel") as proxy:
        context = browser.new_context(locale="en-US")
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        Person(context, f"{proxy.address}/tools/easel/")
        context.close()
        assert {url for url in asked if not url.startswith((f"{proxy.address}/tools/easel", "data:", "blob:"))} == set()
