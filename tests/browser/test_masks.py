"""What the hand draws is what the server gets: masks at the picture's own resolution, against discs along the stroke that numpy draws."""

import io
import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Person, Server, opened

Point = tuple[float, float]
LIKE = 0.98  # intersection over union
ZIGZAG = ((0.2, 0.25), (0.7, 0.4), (0.3, 0.6), (0.8, 0.8))  # in parts of the picture's sides
OVER_THE_BORDER = ((0.6, 0.3), (1.2, 0.5), (0.7, 0.9), (0.4, 1.1), (0.2, 0.6), (-0.15, 0.2), (0.1, 0.1))
SIZES = {(512, 512): 1.0, (1536, 1024): 1.5, (4096, 2048): 6.0}  # and the seconds within which the mask is at the server


@pytest.fixture
def hand(server: Server, browser: Browser) -> Iterator[Person]:
    """Somebody with a mouse and a screen that can be touched."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US", has_touch=True)
    somebody = Person(context, server.address)
    yield somebody
    context.close()
    assert somebody.complaints == []


def inpaint(person: Person, size: tuple[int, int]) -> None:
    """A plain picture of this size on the canvas, ready to be painted on."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "#507090").save(buffer, "PNG")
    person.open("img2img")
    person.page.evaluate("easel.pressMode(2)")
    person.page.wait_for_function("easel.canvases.img2img.mode === 'Inpaint'")
    person.page.set_input_files("#img2img_file", {"name": "plain.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
    person.page.wait_for_function("width => easel.canvases.img2img.width === width && easel.canvases.img2img.hash", arg=size[0])


def places(page: Page, stroke: tuple[Point, ...]) -> list[Point]:
    """The points of a stroke on the screen."""
    mask = page.locator("#img2img_canvas .mask")
    mask.scroll_into_view_if_needed()
    box = mask.bounding_box()
    assert box
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def draw_by_mouse(page: Page, stroke: tuple[Point, ...]) -> None:
    for i, (x, y) in enumerate(places(page, stroke)):
        page.mouse.move(x, y, steps=8)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def draw_by_touch(page: Page, stroke: tuple[Point, ...]) -> None:
    session = page.context.new_cdp_session(page)
    way = places(page, stroke)
    steps = [
        way[0],
        *((x + (u - x) * k / 8, y + (v - y) * k / 8) for (x, y), (u, v) in itertools.pairwise(way) for k in range(1, 9)),
    ]
    for i, (x, y) in enumerate(steps):
        kind = "touchMove" if i else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 1}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def drawn(size: tuple[int, int], stroke: tuple[Point, ...], brush: float) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
    """Every pixel whose centre is within half a brush of the stroke."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    inside = np.zeros((height, width), bool)
    points = [(u * width, v * height) for u, v in stroke]
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        length = (bx - ax) ** 2 + (by - ay) ** 2
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1)
        inside |= (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2 <= brush**2 / 4
    return inside


def sent_mask(person: Person) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
    """The mask as the server has it after Generate would have sent it."""
    name = person.page.evaluate("easel.canvases.img2img.collect().then((sent) => sent.mask)")
    mask = opened(person.page.request.get(f"{person.address}internal/inputs/{name}").body()).convert("L")
    assert set(np.unique(np.asarray(mask))) <= {0, 255}
    return np.asarray(mask) > 127


def likeness(one: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]", other: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]") -> float:
    return float((one & other).sum() / (one | other).sum())


LARGE = [pytest.param(size, marks=pytest.mark.slow if size != (512, 512) else ()) for size in SIZES]


@pytest.mark.parametrize("size", LARGE, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("draw", [draw_by_mouse, draw_by_touch])
def test_the_mask_is_what_was_drawn_at_the_pictures_own_resolution(hand: Person, size: tuple[int, int], draw) -> None:
    inpaint(hand, size)
    brush = hand.page.evaluate("easel.canvases.img2img.brush")
    draw(hand.page, ZIGZAG)
    began = time.monotonic()
    mask = sent_mask(hand)
    assert time.monotonic() - began < SIZES[size]
    assert mask.shape == size[::-1]
    assert likeness(mask, drawn(size, ZIGZAG, brush)) > LIKE


@pytest.mark.parametrize("draw", [draw_by_mouse, draw_by_touch])
def test_a_stroke_leaves_the_picture_and_comes_back(hand: Person, draw) -> None:
    inpaint(hand, (640, 512))
    brush = hand.page.evaluate("easel.canvases.img2img.brush")
    draw(hand.page, OVER_THE_BORDER)
    assert likeness(sent_mask(hand), drawn((640, 512), OVER_THE_BORDER, brush)) > LIKE


def test_a_mask_of_2048_square_is_collected_in_a_second(hand: Person) -> None:
    inpaint(hand, (2048, 2048))
    draw_by_mouse(hand.page, ZIGZAG)
    took = hand.page.evaluate(
        "async () => { const began = performance.now(); await easel.canvases.img2img.collect(); return performance.now() - began; }"
    )
    assert took < 1000


def test_a_new_picture_has_no_mask(hand: Person) -> None:
    inpaint(hand, (512, 512))
    draw_by_mouse(hand.page, ZIGZAG)
    assert sent_mask(hand).any()
    inpaint(hand, (640, 512))
    assert hand.page.evaluate("easel.canvases.img2img.collect().then((sent) => sent.mask)") == ""
    hand.page.keyboard.press("Control+z")
    assert hand.page.evaluate("easel.canvases.img2img.collect().then((sent) => sent.mask)") == ""
