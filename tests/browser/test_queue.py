"""The Queue tab, with a person's hands: three jobs waiting, moved, edited, cancelled, tried again; a pause that outlives the server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person, Server, free_port, opened, serving
from tests.judge import judge


@pytest.fixture(autouse=True)
def going(person: Person) -> Iterator[None]:
    """The queue goes on afterwards, empty."""
    yield
    while active := [job["id"] for job in rows(person) if job["status"] in ("queued", "running", "saving")]:
        for job_id in active:
            order(person, {"order": "cancel", "job": job_id})
        person.page.wait_for_timeout(100)
    order(person, {"order": "resume"})
    order(person, {"order": "clear"})


def order(person: Person, body: dict[str, str]) -> None:
    person.page.evaluate(
        "body => fetch('internal/queue', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)})", body
    )


def rows(person: Person) -> list[dict[str, str]]:
    return person.page.evaluate("fetch('internal/queue').then((answer) => answer.json()).then((told) => told.jobs)")  # type: ignore[no-any-return]


def shown(person: Person) -> list[str]:
    """The titles of the rows, from top to bottom."""
    return person.page.locator("#queue_list li strong").all_inner_texts()


def wait_for(person: Person, *titles: str) -> None:
    person.page.wait_for_function(
        "titles => JSON.stringify(Array.from(document.querySelectorAll('#queue_list li strong'), (node) => node.textContent)) === titles",
        arg=json.dumps(titles, separators=(",", ":"), ensure_ascii=False),
    )


def paused(person: Person) -> None:
    order(person, {"order": "clear"})  # what other tests have left
    person.open("queue")
    person.page.click("#queue_pause")
    person.page.locator("#queue_pause[aria-label='Go on']").wait_for()


def queue_up(person: Person, *prompts: str) -> None:
    """Start jobs on the txt2img tab, and go back to the queue."""
    person.open("txt2img")
    person.write("txt2img_steps", 8)
    for prompt in prompts:
        person.write("txt2img_prompt", prompt)
        person.generate("txt2img")
    person.open("queue")
    person.page.locator("#queue_list li", has_text=prompts[-1]).first.wait_for()


def row(person: Person, title: str) -> str:
    return f"#queue_list li:has(strong:text-is('{title}'))"


def press(person: Person, title: str, label: str) -> None:
    person.page.click(f"{row(person, title)} button[aria-label='{label}']")


def wait_for_status(person: Person, title: str, status: str) -> None:
    person.page.locator(f"{row(person, title)}[data-status='{status}']").first.wait_for()


def test_three_jobs_are_moved_by_buttons_keys_and_mouse(person: Person) -> None:
    paused(person)
    queue_up(person, "one", "two", "three")
    wait_for(person, "one", "two", "three")
    press(person, "three", "Move to the top")
    wait_for(person, "three", "one", "two")
    person.page.focus(f"{row(person, 'two')} button[aria-label='Move up']")
    person.page.keyboard.press("Enter")
    wait_for(person, "three", "two", "one")
    assert person.page.evaluate("document.activeElement.ariaLabel") == "Move up"
    assert person.page.evaluate("document.activeElement.closest('li').querySelector('strong').textContent") == "two"
    person.page.drag_and_drop(f"{row(person, 'one')} strong", f"{row(person, 'three')} strong")
    wait_for(person, "one", "three", "two")
    person.page.drag_and_drop(f"{row(person, 'one')} strong", f"{row(person, 'two')} strong")
    wait_for(person, "three", "two", "one")
    person.page.select_option(f"{row(person, 'one')} select", "high")
    wait_for(person, "one", "three", "two")
    assert person.page.locator("#open_queue .count").inner_text() == "3"
    person.page.click("#queue_pause")
    for title in ("one", "two", "three"):
        wait_for_status(person, title, "done")
    assert person.page.locator("#queue_list li img:visible").count() == 3
    assert person.page.locator("#open_queue .count").inner_text() == ""
    person.page.click("#queue_clear")
    wait_for(person)


def test_a_job_is_cancelled_tried_again_and_duplicated(person: Person) -> None:
    paused(person)
    queue_up(person, "a <b>bold</b> cat", "kept")
    press(person, "a <b>bold</b> cat", "Cancel")
    wait_for_status(person, "a <b>bold</b> cat", "interrupted")
    press(person, "a <b>bold</b> cat", "Try again")
    wait_for_status(person, "a <b>bold</b> cat", "queued")
    wait_for(person, "kept", "a <b>bold</b> cat")
    press(person, "kept", "Duplicate with a new seed")
    person.page.locator("#queue_list li").nth(2).wait_for()
    seeds = {job["id"]: job for job in rows(person)}
    assert len(seeds) == 3
    assert shown(person).count("kept") == 2


def test_a_waiting_job_is_edited_in_its_tab_and_put_back(person: Person) -> None:
    paused(person)
    queue_up(person, "a green square on a white background")
    person.open("txt2img")
    person.write("txt2img_prompt", "my draft")
    person.write("txt2img_steps", 9)
    person.open("queue")
    press(person, "a green square on a white background", "Edit in its tab")
    person.wait_for_value("txt2img_prompt", "a green square on a white background")
    assert person.value("txt2img_steps") == "8"
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_seed", 3)
    person.write("txt2img_steps", 12)
    person.page.click("#queue_put_back")
    person.wait_for_toast("The waiting job is changed.")
    wait_for(person, "a red circle on a blue background")
    person.page.click("#queue_pause")
    wait_for_status(person, "a red circle on a blue background", "done")
    person.open("txt2img")
    person.wait_for_value("txt2img_prompt", "my draft")
    assert person.value("txt2img_steps") == "9"
    assert person.value("setting_vae") == "Automatic"
    seen = judge(opened(person.picture_file("txt2img")))
    assert (seen.object, seen.colour, seen.background) == ("circle", "red", "blue")


def test_a_job_that_is_not_to_be_changed_after_all_stays_as_it_was(person: Person) -> None:
    paused(person)
    queue_up(person, "as it was")
    press(person, "as it was", "Edit in its tab")
    person.wait_for_value("txt2img_prompt", "as it was")
    person.write("txt2img_prompt", "something else")
    person.page.click("#queue_leave")
    person.wait_for_value("txt2img_prompt", "as it was")
    assert person.page.locator(".editing").count() == 0
    person.open("queue")
    wait_for(person, "as it was")


def test_an_inpainting_job_keeps_its_mask_when_it_is_edited(person: Person, wide_png: bytes) -> None:
    paused(person)
    person.open("img2img")
    person.page.evaluate("easel.pressMode(2)")
    person.drop("#img2img_canvas .canvas", wide_png, "wide.png")
    mask = person.page.locator("#img2img_canvas canvas.mask")
    mask.wait_for()
    box = mask.bounding_box()
    assert box
    person.page.mouse.move(box["x"] + 50, box["y"] + 50)
    person.page.mouse.down()
    person.page.mouse.move(box["x"] + 90, box["y"] + 60)
    person.page.mouse.up()
    person.write("img2img_prompt", "before")
    person.generate("img2img")
    person.open("queue")
    before = next(job for job in rows(person) if job["title"] == "before")
    assert before["inputs"]["mask"]  # type: ignore[index]
    press(person, "before", "Edit in its tab")
    person.wait_for_value("img2img_prompt", "before")
    person.page.locator(".editing", has_text="Its mask stays").wait_for()
    person.page.wait_for_function("hash => easel.canvases.img2img.hash === hash", arg=before["inputs"]["image"])  # type: ignore[index]
    person.write("img2img_prompt", "after")
    person.page.click("#queue_put_back")
    wait_for(person, "after")
    assert next(job for job in rows(person) if job["title"] == "after")["inputs"] == before["inputs"]


def test_every_control_of_the_queue_has_a_name(person: Person) -> None:
    paused(person)
    queue_up(person, "named")
    unnamed = person.page.evaluate(
        "Array.from(document.querySelectorAll('#queue_panel :is(button, select)'))"
        ".filter((node) => node.checkVisibility() && !node.ariaLabel && !node.textContent.trim()).length"
    )
    assert unnamed == 0
    assert person.page.locator("#open_queue").get_attribute("aria-label") == "Queue, 0 running, 1 waiting"


def test_a_pause_outlives_the_server(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US", color_scheme="light")
    with serving(tmp_path, port):
        person = Person(context, f"http://127.0.0.1:{port}/")
        paused(person)
        queue_up(person, "waits")
    with serving(tmp_path, port):
        person.page.reload()
        person.ready(person.page)
        person.open("queue")
        person.page.locator("#queue_pause[aria-label='Go on']").wait_for()
        wait_for_status(person, "waits", "queued")
        person.page.click("#queue_pause")
        wait_for_status(person, "waits", "done")
    context.close()


def test_others_see_the_queue_of_this_machines_user(person: Person, server: Server, browser: Browser) -> None:
    """A second browser profile on the same machine: the same user, who manages all."""
    paused(person)
    queue_up(person, "mine")
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="en-US")
    other = Person(context, server.address)
    other.open("queue")
    wait_for(other, "mine")
    assert "Another client" in other.page.locator("#queue_list li .words").inner_text()
    assert other.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    press(other, "mine", "Cancel")
    wait_for_status(person, "mine", "interrupted")
    context.close()
    assert other.complaints == []
