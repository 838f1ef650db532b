"""Sketching on the picture, repainting the sketch alone, and several pictures at once."""

import io

from PIL import Image, ImageChops, ImageStat

from tests.browser.conftest import Person
from tests.browser.test_img2img import paint, start_from_a_picture


def choose_mode(person: Person, mode: str) -> None:
    person.page.locator("#img2img_mode label", has_text=mode).get_by_text(mode, exact=True).click()
    person.page.wait_for_function("mode => easel.canvases.img2img.mode === mode", arg=mode)


def set_color(person: Person, color: str) -> None:
    person.page.evaluate("color => { document.getElementById('img2img_brush_color').value = color; }", color)


def png(color: str, text: str = "") -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), color).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_what_is_sketched_is_part_of_the_picture_to_start_from(person: Person) -> None:
    person.write("txt2img_seed", 5)
    before = start_from_a_picture(person, "img2img")
    choose_mode(person, "Sketch")
    set_color(person, "#00ff00")
    person.page.evaluate("easel.canvases.img2img.resize(60)")
    paint(person, (0.1, 0.1), (0.9, 0.1))
    person.write("img2img_denoising_strength", 0)
    after = person.make_picture("img2img").convert("RGB")
    red, green, blue = ImageStat.Stat(after.crop((32, 8, 96, 16))).mean
    assert green > 140 > 1.5 * max(red, blue)
    choose_mode(person, "img2img")  # the sketch stays on its own layer
    plain = person.make_picture("img2img").convert("RGB")
    assert ImageStat.Stat(ImageChops.difference(before, plain).crop((16, 4, 112, 20))).mean[1] < 40


def test_a_colour_is_taken_from_the_picture(person: Person) -> None:
    person.open("img2img")
    person.drop("#img2img_canvas .area", png("#204060"), "a.png")
    person.page.wait_for_function("Boolean(easel.canvases.img2img.hash)")
    choose_mode(person, "Sketch")
    person.page.locator("#img2img_canvas .mask").click(modifiers=["Alt"])
    assert person.page.locator("#img2img_brush_color").input_value() == "#204060"


def test_inpaint_sketch_changes_what_was_sketched_alone(person: Person) -> None:
    person.write("txt2img_seed", 5)
    before = start_from_a_picture(person, "img2img")
    choose_mode(person, "Inpaint sketch")
    set_color(person, "#ffff00")
    person.page.evaluate("easel.canvases.img2img.resize(40)")
    paint(person, (0.15, 0.2), (0.35, 0.2))
    person.write("img2img_denoising_strength", 0.3)
    person.write("img2img_seed", 5)
    after = person.make_picture("img2img").convert("RGB")
    changed = ImageChops.difference(before, after)
    width, height = before.size
    assert changed.crop((width // 5, height // 6, width // 3, height // 4)).getbbox()
    assert not changed.crop((0, height // 2, width, height)).getbbox()
    red, green, blue = after.getpixel((width // 4, height // 5))
    assert min(red, green) > 2 * blue


def test_each_picture_of_a_batch_is_a_job_with_its_own_prompt(person: Person) -> None:
    person.open("img2img")
    choose_mode(person, "Batch")
    person.page.click("#img2img_generate")
    person.wait_for_toast("no picture to start from")
    told = "a green star\nNegative prompt: dull\nSteps: 3, Sampler: Euler, Seed: 1, Size: 128x128"
    files = [("one.png", png("red")), ("two.png", png("blue", told))]
    person.page.locator("#img2img_batch_files").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    )
    person.page.wait_for_function("easel.canvases.img2img.batch.pictures.length === 2")
    person.page.check("#img2img_batch_own")
    person.write("img2img_prompt", "a red circle")
    person.write("img2img_steps", 2)
    person.write("img2img_width", 128)
    person.write("img2img_height", 128)
    person.page.click("#img2img_generate")
    person.page.wait_for_function("easel.results.img2img.pictures.length === 2")
    texts = person.page.evaluate("easel.results.img2img.pictures.map((each) => each.infotext)")
    assert sorted(text.split("\n")[0] for text in texts) == ["a green star", "a red circle"]
    assert len({text.split("Init image hash: ")[1][:64] for text in texts}) == 2
    person.page.click("#img2img_canvas .pile button >> nth=0")
    assert person.page.evaluate("easel.canvases.img2img.batch.pictures.length") == 1


def test_pictures_that_are_dropped_together_are_a_batch(person: Person) -> None:
    person.open("img2img")
    person.page.evaluate(
        """async () => {
            const transfer = new DataTransfer();
            for (const color of ["red", "blue"]) {
                const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
                const pen = canvas.getContext("2d");
                pen.fillStyle = color;
                pen.fillRect(0, 0, 64, 64);
                const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
                transfer.items.add(new File([blob], `${color}.png`, { type: "image/png" }));
            }
            transfer.items.add(new File(["x"], "notes.txt", { type: "text/plain" }));
            const target = document.querySelector("#img2img_canvas .area");
            target.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }"""
    )
    person.page.wait_for_function("easel.canvases.img2img.batch.pictures.length === 2")
    person.wait_for_toast("1 file is no picture")
    assert person.page.locator("#img2img_canvas .caption").inner_text() == "2 pictures, a job for each"
    assert person.complaints == []
