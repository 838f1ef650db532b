"""Two people at one server: each sees their own; and a server with a password, which answers nobody else."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person, Server
from tests.reliability.live import LIGHT, OWNER, SMALL, Live, serving


@pytest.fixture
def other(server: Server, browser: Browser) -> Iterator[Person]:
    """Somebody else, at another machine as it were: a browser profile of their own."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    somebody = Person(context, server.address)
    yield somebody
    context.close()
    assert somebody.complaints == []


def test_each_sees_their_own_job_and_picture_and_how_many_are_ahead(person: Person, other: Person) -> None:
    person.write("txt2img_steps", 120)
    person.generate("txt2img")
    person.page.wait_for_selector("#txt2img_results .preview:not([hidden])")
    other.write("txt2img_steps", 3)
    other.generate("txt2img")
    other.page.locator("#txt2img_results .words", has_text="Queued, 1 ahead").wait_for()
    assert other.page.locator("#txt2img_results .preview").is_hidden()
    assert other.page.evaluate("easel.results.txt2img.jobs.size") == 1
    for each, steps in ((person, 120), (other, 3)):
        each.page.bring_to_front()
        each.wait_for_end("txt2img")
        assert each.status("txt2img") == "done"
        assert each.page.evaluate("easel.results.txt2img.pictures.map((picture) => picture.infotext.match(/Steps: (\\d+)/)[1])") == [
            str(steps)
        ]
        each.page.reload()
        each.ready(each.page)
        each.page.locator("#txt2img_gallery .thumb").first.wait_for()
        assert each.page.locator("#txt2img_gallery .thumb").count() == 1


def test_nobody_interrupts_skips_or_looks_at_the_job_of_another_not_even_by_a_direct_request(person: Person, other: Person) -> None:
    person.write("txt2img_steps", 150)
    person.generate("txt2img")
    person.page.wait_for_selector("#txt2img_results .preview:not([hidden])")
    job = person.page.evaluate("easel.results.txt2img.current().id")
    told = """async ([job, ways]) => Promise.all(ways.map(async ([method, way]) =>
        (await fetch(`internal/jobs/${job}${way}?client=${easel.client}`, { method })).status))"""
    ways = [["POST", "/interrupt"], ["POST", "/skip"], ["GET", "/preview.jpg"], ["GET", ""]]
    assert other.page.evaluate(told, [job, ways]) == [403] * 4
    other.page.focus("#txt2img_prompt textarea")
    other.page.keyboard.press("Escape")
    assert person.page.evaluate("easel.results.txt2img.current()?.status") == "running"
    assert person.page.evaluate(told, [job, ways[2:]]) == [200] * 2
    assert person.page.evaluate(told, [job, ways[:1]]) == [200]
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "interrupted"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("locked"), *LIGHT, "--gradio-auth", ":".join(OWNER)) as live:
        yield live


SOCKET = """(address) => new Promise((resolve) => {
    const socket = new WebSocket(address);
    socket.onopen = () => resolve("open");
    socket.onclose = () => resolve("refused");
})"""


def test_a_wrong_password_is_told_and_without_the_right_one_nothing_answers(locked: Live, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    page = context.new_page()
    with locked.http(auth=OWNER) as owner:
        assert owner.post("/sdapi/v1/txt2img", json=SMALL | {"save_images": True}).status_code == 200  # something to be kept from others
    page.goto(f"{locked.url}/")
    assert page.locator("html[data-easel]").count() == 0
    page.fill("[name=username]", OWNER[0])
    page.fill("[name=password]", "guessed")
    page.click("button")
    page.get_by_text("User or password is wrong").wait_for()
    socket = f"{locked.url.replace('http', 'ws')}/internal/ws/{'a' * 32}"
    paths = [
        "sdapi/v1/options",
        "internal/queue",
        "internal/pictures/1",
        "internal/gallery",
        "config",
        "gradio_api/info",
        "file=/etc/passwd",
    ]
    for path in paths:
        assert page.request.get(f"{locked.url}/{path}").status == 401, path
    assert page.request.post(f"{locked.url}/sdapi/v1/txt2img", data=SMALL).status == 401
    sent = {"files": {"name": "a.png", "mimeType": "image/png", "buffer": b"a"}}
    assert page.request.post(f"{locked.url}/gradio_api/upload", multipart=sent).status == 401
    assert page.evaluate(SOCKET, socket) == "refused"
    page.fill("[name=username]", OWNER[0])
    page.fill("[name=password]", OWNER[1])
    page.click("button")
    page.wait_for_selector("html[data-easel=ready]", state="attached")
    assert page.evaluate(SOCKET, socket) == "open"
    assert [page.request.get(f"{locked.url}/{path}").status for path in paths[1:4]] == [200] * 3
    context.close()
