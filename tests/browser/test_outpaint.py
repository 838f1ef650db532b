import pytest
from PIL import ImageChops

from tests.browser.conftest import Person
from tests.browser.test_img2img import start_from_a_picture


def test_a_picture_grows_to_the_left_and_keeps_its_pixels(person: Person) -> None:
    before = start_from_a_picture(person, "outpaint")
    width, height = before.size
    person.page.click("#outpaint_left_more")
    person.page.locator("#outpaint_canvas .caption", has_text=f"final size {width + 64} × {height}").wait_for()
    after = person.make_picture("outpaint").convert("RGB")
    assert after.size == (width + 64, height)
    kept = ImageChops.difference(before, after.crop((64, 0, 64 + width, height)))
    assert not kept.crop((32, 0, width, height)).getbbox()  # beyond the rim that may be blended


@pytest.mark.parametrize(("side", "way"), [("right", (35, 0)), ("left", (-35, 0)), ("top", (0, -35)), ("bottom", (0, 35))])
def test_dragging_an_edge_and_its_number_stay_in_step(person: Person, wide_png: bytes, side: str, way: tuple[int, int]) -> None:
    page = person.page
    person.open("outpaint")
    page.set_input_files("#outpaint_file", {"name": "wide.png", "mimeType": "image/png", "buffer": wide_png})
    page.wait_for_function("Boolean(easel.canvases.outpaint.hash)")
    handle = page.locator(f"#outpaint_canvas .handle.{side}")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + way[0], y + way[1], steps=4)
    page.mouse.up()
    page.wait_for_function("id => Number(document.querySelector(`#outpaint_${id} input`).value) > 0", arg=side)
    pixels = int(person.value(f"outpaint_{side}"))
    assert pixels % 8 == 0
    size = (800 + pixels, 400) if way[0] else (800, 400 + pixels)
    assert f"final size {size[0]} × {size[1]}" in page.locator("#outpaint_canvas .caption").inner_text()


def test_no_side_is_told(person: Person, wide_png: bytes) -> None:
    person.open("outpaint")
    person.page.set_input_files("#outpaint_file", {"name": "wide.png", "mimeType": "image/png", "buffer": wide_png})
    person.page.wait_for_function("Boolean(easel.canvases.outpaint.hash)")
    person.page.click("#outpaint_generate")
    person.wait_for_toast("at least one side")


def test_a_shape_is_reached_by_growing_on_both_ends_and_what_is_too_large_is_told(person: Person, wide_png: bytes) -> None:
    page = person.page
    person.open("outpaint")
    page.click("#outpaint_shapes [data-shape='16:9']")
    person.wait_for_toast("Choose a picture first")
    page.set_input_files("#outpaint_file", {"name": "wide.png", "mimeType": "image/png", "buffer": wide_png})
    page.wait_for_function("Boolean(easel.canvases.outpaint.hash)")
    caption = page.locator("#outpaint_canvas .caption")
    for shape, size in (("16:9", "800 × 448"), ("1:1", "800 × 800"), ("2:1", "800 × 400")):
        page.click(f"#outpaint_shapes [data-shape='{shape}']")
        caption.filter(has_text=f"final size {size}").wait_for()
    page.click("#outpaint_shapes [data-shape='1:1']")
    person.wait_for_value("outpaint_top", 200)
    person.wait_for_value("outpaint_bottom", 200)
    assert caption.locator(".too-large").count() == 0
    person.write("outpaint_left", 3600)
    caption.locator(".too-large").wait_for()


def test_a_result_is_grown_further(person: Person) -> None:
    width, height = start_from_a_picture(person, "outpaint").size
    person.page.click("#outpaint_right_more")
    person.page.locator("#outpaint_canvas .caption", has_text=f"final size {width + 64} × {height}").wait_for()
    person.make_picture("outpaint")
    person.page.click("#outpaint_send_to_outpaint")  # "Grow further"
    person.page.locator(
        "#outpaint_canvas .caption", has_text=f"Picture {width + 64} × {height} → final size {width + 128} × {height}"
    ).wait_for()
    assert person.make_picture("outpaint").size == (width + 128, height)


def test_a_finger_that_the_system_takes_away_lets_go_of_the_edge(person: Person, wide_png: bytes) -> None:
    page = person.page
    person.open("outpaint")
    page.set_input_files("#outpaint_file", {"name": "wide.png", "mimeType": "image/png", "buffer": wide_png})
    handle = page.locator("#outpaint_canvas .handle.right")
    handle.wait_for()
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box
    beside, y = box["x"] + box["width"] + 8, box["y"] + box["height"] / 2  # near it is enough for a finger
    page.mouse.move(beside, y)
    page.mouse.down()
    page.mouse.move(beside + 20, y, steps=4)
    handle.dispatch_event("pointercancel", {"pointerId": 1})
    page.wait_for_function("document.querySelector('#outpaint_right input').value > 0")
    kept = page.evaluate("easel.canvases.outpaint.sides[1]")
    page.mouse.move(beside + 60, y, steps=4)
    assert page.evaluate("easel.canvases.outpaint.sides[1]") == kept
    page.mouse.up()
