import numpy as np
from PIL import Image, ImageChops, ImageFilter

from tests.browser.conftest import Person


def start_from_a_picture(person: Person, target: str) -> Image.Image:
    """Make a picture in txt2img and send it to `target`."""
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_steps", 5)
    picture = person.make_picture("txt2img").convert("RGB")
    person.page.click(f"#txt2img_send_to_{target}")
    tab = "outpaint" if target == "outpaint" else "img2img"
    person.page.wait_for_function("tab => Boolean(easel.canvases[tab].hash)", arg=tab)
    person.wait_for_value(f"{tab}_steps", 5)
    return picture


def painted(person: Person) -> Image.Image:
    """ "L" of the picture's size: 255 where the mask is painted."""
    read = "() => { const { mask, pen } = easel.canvases.img2img; "
    read += "return [mask.width, mask.height, Array.from(pen.getImageData(0, 0, mask.width, mask.height).data)]; }"
    width, height, values = person.page.evaluate(read)
    alpha = np.array(values, np.uint8).reshape(height, width, 4)[:, :, 3]
    return Image.fromarray(np.where(alpha > 127, 255, 0).astype(np.uint8))


def paint(person: Person, *points: tuple[float, float]) -> None:
    """A stroke of the mouse through points given in parts of the picture's sides."""
    mask = person.page.locator("#img2img_canvas .mask")
    mask.scroll_into_view_if_needed()
    box = mask.bounding_box()
    assert box
    for i, (x, y) in enumerate(points):
        person.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if i == 0:
            person.page.mouse.down()
    person.page.mouse.up()


def test_only_what_is_painted_changes(person: Person) -> None:
    before = start_from_a_picture(person, "inpaint")
    paint(person, (0.15, 0.2), (0.35, 0.2))
    person.write("img2img_prompt", "a green star on a yellow background")
    person.write("img2img_denoising_strength", 1)
    person.write("img2img_seed", 4711)
    mask = painted(person)
    after = person.make_picture("img2img").convert("RGB")
    assert after.size == before.size
    changed = np.asarray(ImageChops.difference(before, after)).max(axis=2)
    blur = 10  # pixels that a mask blur of 4 reaches
    outside = np.asarray(mask.filter(ImageFilter.MaxFilter(2 * blur + 1))) == 0
    assert 0.5 < outside.mean() < 0.95
    assert not changed[outside].any()
    assert (changed[np.asarray(mask) > 0] > 8).mean() > 0.3


def test_the_mask_can_be_undone_redone_inverted_and_cleared(person: Person) -> None:
    start_from_a_picture(person, "inpaint")
    page = person.page
    painted = "() => { const pixels = easel.canvases.img2img.pen.getImageData(0, 0, 128, 128).data; let n = 0; "
    painted += "for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 127; return n / (pixels.length / 4); }"
    paint(person, (0.5, 0.5), (0.9, 0.5), (1.3, 0.5))  # leaves the picture to the right
    stroke = page.evaluate(painted)
    assert 0.03 < stroke < 0.2
    page.click("#img2img_invert")
    assert abs(page.evaluate(painted) - (1 - stroke)) < 0.02
    page.keyboard.press("Control+z")
    page.click("#img2img_undo")
    assert page.evaluate(painted) == 0
    page.click("#img2img_redo")
    assert page.evaluate(painted) == stroke
    page.click("#img2img_eraser")
    paint(person, (0.0, 0.5), (1.0, 0.5))
    assert page.evaluate(painted) < 0.01
    page.click("#img2img_undo")
    page.click("#img2img_clear")
    assert page.evaluate(painted) == 0


def test_what_is_missing_is_told(person: Person) -> None:
    person.open("img2img")
    person.page.click("#img2img_generate")
    person.wait_for_toast("no picture to start from")
    person.drop("#img2img_canvas .area", b"this is text", "text.png")
    person.page.wait_for_function("document.querySelectorAll('#easel_toasts .note').length === 2")


def test_a_dropped_picture_sets_sizes_of_its_shape_and_the_ruler_takes_its_own(person: Person, wide_png: bytes) -> None:
    person.open("img2img")
    person.drop("#img2img_canvas .area", wide_png, "wide.png")
    person.page.wait_for_function("Boolean(easel.canvases.img2img.hash)")
    person.page.wait_for_function("Number(document.querySelector('#img2img_width input').value) > 128")
    assert abs(float(person.value("img2img_width")) / float(person.value("img2img_height")) - 2) < 0.2
    person.page.click("#img2img_detect_image_size")
    person.wait_for_value("img2img_width", 800)
    person.wait_for_value("img2img_height", 400)
