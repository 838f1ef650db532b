"""Many tabs, closed tabs, a network that is cut: the page shows what is true as soon as it can know it."""

import time
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person, Server
from tests.browser.proxy import proxy_to

TABS = 6  # one more than browsers have connections for on HTTP/1.1 if each tab holds one
GONE = 5.0  # seconds


def test_six_tabs_all_load_and_all_can_ask_and_see_the_same_job(person: Person) -> None:
    pages = [person.page, *(person.visit() for _ in range(TABS - 1))]
    began = time.monotonic()
    asked = "() => fetch('internal/queue').then((answer) => answer.status)"
    assert [page.evaluate(asked) for page in pages] == [200] * TABS
    assert time.monotonic() - began < 10
    person.write("txt2img_steps", 20)
    person.generate("txt2img")
    for page in pages:
        page.bring_to_front()
        page.locator("#txt2img_gallery .thumb").first.wait_for()
    assert len({page.evaluate("easel.results.txt2img.pictures[0].id") for page in pages}) == 1


def test_a_tab_that_is_closed_while_its_job_runs_leaves_the_picture_for_the_next(person: Person) -> None:
    person.write("txt2img_steps", 60)
    person.generate("txt2img")
    person.page.wait_for_function("easel.results.txt2img.current()?.step > 3")
    person.page.close()
    later = person.visit()
    later.locator("#txt2img_gallery .thumb").first.wait_for()
    assert "Steps: 60" in later.locator("#txt2img_infotext").inner_text()


@pytest.mark.slow
def test_a_network_that_is_gone_for_five_seconds_is_told_and_then_all_is_there(server: Server, browser: Browser) -> None:
    with proxy_to(urlparse(server.address).port or 0) as network:
        person = Person(browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US"), f"{network.address}/")
        page = person.page
        person.write("txt2img_steps", 60)
        person.generate("txt2img")
        page.wait_for_function("easel.results.txt2img.current()?.step > 2")
        network.cut()
        page.wait_for_function("!easel.connected")
        assert "reconnecting" in page.locator("#statusline").inner_text()
        page.wait_for_timeout(GONE * 1000)
        network.mend()
        page.wait_for_function("easel.connected")
        person.wait_for_end("txt2img")
        assert person.status("txt2img") == "done"
        assert page.evaluate("easel.results.txt2img.jobs.size") == 1
        person.write("txt2img_steps", 2)
        person.make_picture("txt2img")
        person.context.close()
    lost = ("WebSocket", "ERR_")  # what the browser itself says of a cut
    assert [each for each in person.complaints if not any(word in each for word in lost)] == []


def test_generate_without_a_network_is_told_and_works_once_it_is_back(server: Server, browser: Browser) -> None:
    with proxy_to(urlparse(server.address).port or 0) as network:
        person = Person(browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US"), f"{network.address}/")
        person.write("txt2img_steps", 2)
        network.cut()
        person.page.wait_for_function("!easel.connected")
        person.page.click("#txt2img_generate")
        person.wait_for_toast("The server does not answer")
        network.mend()
        person.page.wait_for_function("easel.connected")
        person.make_picture("txt2img")
        assert person.page.evaluate("easel.results.txt2img.jobs.size") == 1
        person.context.close()
