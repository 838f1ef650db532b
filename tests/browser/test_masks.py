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


def sent_greys(person: Person) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """The mask as the server has it after Generate would have sent it."""
    name = person.page.evaluate("easel.canvases.img2img.collect().then((sent) => sent.mask)")
    return np.asarray(opened(person.page.request.get(f"{person.address}internal/inputs/{name}").body()).convert("L"))


def sent_mask(person: Person) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
    """The same, of black and white alone."""
    mask = sent_greys(person)
    assert set(np.unique(mask)) <= {0, 255}
    return mask > 127


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


def mask_file(size: tuple[int, int], mode: str) -> bytes:
    """A mask that asks for the left third; of mode "LA" by what is not see-through, all of it white."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 3, size[1]))
    if mode == "LA":
        mask = Image.merge("LA", (Image.new("L", size, 255), mask))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def load_mask(person: Person, data: bytes) -> None:
    with person.page.expect_file_chooser() as chooser:
        person.page.click("#img2img_stencil")
    acts = person.page.evaluate("easel.canvases.img2img.done.length")
    chooser.value.set_files({"name": "mask.png", "mimeType": "image/png", "buffer": data})
    person.page.wait_for_function(
        "acts => easel.canvases.img2img.done.length > acts || document.querySelector('#easel_toasts .note')", arg=acts
    )


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_mask_from_a_file_takes_the_place_of_what_was_painted_until_undone(hand: Person, mode: str) -> None:
    inpaint(hand, (640, 512))
    draw_by_mouse(hand.page, ZIGZAG)
    painted = sent_mask(hand)
    load_mask(hand, mask_file((640, 512), mode))
    left = np.zeros((512, 640), bool)
    left[:, :213] = True
    assert np.array_equal(sent_mask(hand), left)
    hand.page.locator("#img2img_canvas .area").focus()
    hand.page.keyboard.press("Shift+V")
    assert np.array_equal(sent_mask(hand), ~left)
    for _ in range(2):
        hand.page.keyboard.press("Control+z")
    assert np.array_equal(sent_mask(hand), painted)


def test_a_mask_of_another_shape_is_stretched_and_said_to_be_and_what_is_none_is_refused(hand: Person) -> None:
    inpaint(hand, (640, 512))
    load_mask(hand, b"no picture")
    hand.wait_for_toast("This is no picture that the browser can read")
    assert hand.page.evaluate("easel.canvases.img2img.done.length") == 0
    load_mask(hand, mask_file((300, 300), "L"))
    hand.wait_for_toast("The mask is 300 × 300, the picture 640 × 512: the mask was stretched.")
    left = np.zeros((512, 640), bool)
    left[:, :213] = True
    assert likeness(sent_greys(hand) > 127, left) > LIKE


def test_greys_of_a_mask_from_a_file_are_sent_as_they_are(hand: Person) -> None:
    inpaint(hand, (640, 512))
    greys = Image.linear_gradient("L").resize((640, 512))
    buffer = io.BytesIO()
    greys.save(buffer, "PNG")
    load_mask(hand, buffer.getvalue())
    assert np.abs(sent_greys(hand).astype(int) - np.asarray(greys).astype(int)).max() <= 1


def test_what_is_painted_closely_is_where_it_was_painted(hand: Person) -> None:
    inpaint(hand, (640, 512))
    page = hand.page
    (middle,) = places(page, ((0.4, 0.5),))
    mouse = round(middle[0]), round(middle[1])  # browsers tell whole pixels
    page.mouse.move(*mouse)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    page.wait_for_function("easel.canvases.img2img.zoom.scale > 2")
    scale = page.evaluate("easel.canvases.img2img.zoom.scale")
    beside = [at + (place - at) * scale for at, place in zip(mouse, middle, strict=True)]
    assert places(page, ((0.4, 0.5),))[0] == pytest.approx(beside, abs=1)  # what was under the mouse stays there
    stroke = ((0.3, 0.45), (0.5, 0.5), (0.4, 0.6))
    draw_by_mouse(page, stroke)
    brush = page.evaluate("easel.canvases.img2img.brush")
    assert likeness(sent_mask(hand), drawn((640, 512), stroke, brush)) > LIKE
    for key in ("Space", "v"):  # both move the picture, and paint nothing
        before = places(page, ((0.4, 0.5),))[0]
        if key == "Space":
            page.keyboard.down(key)
        else:
            page.keyboard.press(key)
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 30, middle[1] - 20, steps=4)
        page.mouse.up()
        page.keyboard.up(key)
        assert places(page, ((0.4, 0.5),))[0] == pytest.approx((before[0] + 30, before[1] - 20), abs=1)
    assert page.evaluate("easel.canvases.img2img.done.length") == 1
    page.keyboard.press("0")
    assert page.evaluate("easel.canvases.img2img.zoom.scale") == 1


def test_two_fingers_zoom_the_canvas_and_paint_nothing(hand: Person) -> None:
    inpaint(hand, (640, 512))
    one, other, *_ = places(hand.page, ((0.4, 0.5), (0.6, 0.5)))
    session = hand.page.context.new_cdp_session(hand.page)
    for apart in range(0, 60, 10):
        points = [{"x": one[0] - apart, "y": one[1], "id": 1}, {"x": other[0] + apart, "y": other[1], "id": 2}]
        for touching in (points[:1], points) if not apart else (points,):
            session.send("Input.dispatchTouchEvent", {"type": "touchMove" if apart else "touchStart", "touchPoints": touching})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    scale = hand.page.evaluate("easel.canvases.img2img.zoom.scale")
    assert scale == pytest.approx((other[0] - one[0] + 100) / (other[0] - one[0]), rel=0.05)
    assert hand.page.evaluate("easel.canvases.img2img.collect().then((sent) => sent.mask)") == ""
    draw_by_touch(hand.page, ((0.45, 0.45), (0.55, 0.55)))
    assert hand.page.evaluate("easel.canvases.img2img.done.length") == 1
