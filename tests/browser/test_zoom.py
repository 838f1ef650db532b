"""A picture looked at closely: clicks, drags and double clicks are told apart, and two fingers zoom."""

from playwright.sync_api import Browser, Locator, Page

from tests.browser.conftest import Person, Server


def with_a_picture(person: Person) -> Page:
    person.write("txt2img_steps", 1)
    person.make_picture("txt2img")
    person.page.click("#txt2img_results .view")
    return person.page


def middle(node: Locator) -> tuple[float, float]:
    box = node.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def scale(page: Page) -> float:
    return float(page.locator(".look img").evaluate("node => new DOMMatrix(getComputedStyle(node).transform).a"))


def test_a_click_closes_the_large_picture_and_a_drag_or_a_double_click_does_not(person: Person) -> None:
    page = with_a_picture(person)
    large = page.locator("dialog.large")
    x, y = middle(large.locator(".look"))
    page.mouse.dblclick(x, y)
    assert scale(page) > 1
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    page.wait_for_timeout(600)  # longer than a click waits for a second one: what is asked next is that nothing happened
    assert large.is_visible()
    assert "translate(40px, 30px)" in str(large.locator("img").get_attribute("style"))
    page.mouse.click(x + 40, y + 30)  # on the picture
    large.wait_for(state="detached")
    assert page.evaluate("document.activeElement.className") == "view"
    page.keyboard.press("Enter")
    large.wait_for()
    page.mouse.click(20, y)  # beside it
    large.wait_for(state="detached")


def test_a_click_beside_the_gallerys_large_picture_closes_it_and_one_on_its_words_does_not(person: Person) -> None:
    page = with_a_picture(person)
    page.keyboard.press("Escape")
    person.open("gallery")
    page.locator("#gallery_grid .shot").first.click()
    shown = page.locator("dialog.shown-picture")
    shown.locator(".panel").click(position={"x": 5, "y": 400})
    look = shown.locator(".look").bounding_box()
    assert look
    assert shown.is_visible()
    page.mouse.click(look["x"] + 5, look["y"] + look["height"] / 2)
    shown.wait_for(state="detached")


def test_two_fingers_zoom_and_a_tap_closes(server: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, locale="en-US")
    page = with_a_picture(Person(context, server.address))
    x, y = middle(page.locator("dialog.large .look"))
    fingers = context.new_cdp_session(page)

    def touch(kind: str, *apart: int) -> None:
        points = [{"x": x + side, "y": y, "id": i} for i, side in enumerate(apart)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -40, 40)
    touch("touchMove", -60, 60)
    touch("touchMove", -120, 120)
    touch("touchEnd")
    assert 2.5 < scale(page) < 3.5  # three times as far apart
    page.touchscreen.tap(x, y)
    page.locator("dialog.large").wait_for(state="detached")
    context.close()
