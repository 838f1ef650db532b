"""Extras: a person drops pictures, sees them larger, slides between before and after, and stops, skips and sends on."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.browser.conftest import Person, Server, opened
from webui.core.image_metadata import encode
from webui.engine.upscaler_model import Compact

TEXT = "a red circle on a blue background\nSteps: 8, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 128x128"
STAGE = "#extras_results"


@pytest.fixture(scope="module", autouse=True)
def slow(server: Server) -> Iterator[None]:
    """One more upscaler, which takes its time."""
    folder = server.data_dir / "models/ESRGAN"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file(Compact(num_feat=64, num_conv=24, upscale=4).state_dict(), folder / "4x-Slow.safetensors")
    yield
    shutil.rmtree(folder)


def picture(side: int = 128, colour: str = "teal", text: str = TEXT) -> bytes:
    image = Image.new("RGB", (side, side), colour)
    image.paste("white", (side // 4, side // 4, side // 2, side // 2))
    return encode(image, text, "png")


def begin(person: Person, mode: str = "single", upscaler: str = "Lanczos") -> None:
    person.open("extras")
    person.page.click(f"#extras_mode_{mode}")
    person.choose("extras_upscaler_1", upscaler)


def results(person: Person) -> int:
    return person.page.locator("#extras_gallery .thumb").count()


def run(person: Person) -> None:
    """Press Generate and wait for the end."""
    person.generate("extras")
    person.wait_for_end("extras")


def test_a_dropped_picture_becomes_larger_and_keeps_its_parameters(person: Person) -> None:
    begin(person, upscaler="easel-world-x2")
    person.drop("#extras_input .dropzone", picture(), "one.png")
    person.page.locator("#extras_sizes", has_text="128 × 128 → 256 × 256").wait_for()
    run(person)
    made = opened(person.picture_file("extras"))
    assert made.size == (256, 256)
    assert made.info["parameters"] == TEXT
    assert made.info["postprocessing"] == "Postprocess upscale by: 2, Postprocess upscaler: easel-world-x2"
    told = person.page.locator("#extras_told").inner_text()
    assert "128 × 128 → 256 × 256" in told
    assert "parameters kept" in told
    assert person.page.locator("#extras_infotext").inner_text() == TEXT


def test_the_slider_shows_before_and_after_by_mouse_keyboard_and_touch(person: Person) -> None:
    begin(person, upscaler="Nearest")
    person.drop("#extras_input .dropzone", picture(), "one.png")
    run(person)
    slider = person.page.locator("#extras_compare")
    box = slider.bounding_box()
    assert box
    assert box["width"] == pytest.approx(box["height"], rel=0.01)  # as square as the picture

    def shown() -> float:
        return float(person.page.locator(".pair").evaluate("each => parseFloat(getComputedStyle(each).getPropertyValue('--at'))"))

    person.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.3)
    person.page.mouse.down()
    person.page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.3, steps=5)
    person.page.mouse.up()
    assert shown() == pytest.approx(80, abs=2)
    before = shown()
    slider.press("ArrowLeft")
    assert shown() == before - 0.5
    slider.press("Home")
    assert shown() == 0
    cover = person.page.locator(".pair .before")
    assert cover.evaluate("each => getComputedStyle(each).clipPath") in ("inset(0px 100% 0px 0px)", "inset(0px calc(100% + 0px) 0px 0px)")
    slider.dispatch_event("focus")
    session = person.context.new_cdp_session(person.page)
    point = {"x": box["x"] + box["width"] * 0.25, "y": box["y"] + box["height"] * 0.5}
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    person.page.wait_for_function("parseFloat(getComputedStyle(document.querySelector('.pair')).getPropertyValue('--at')) > 20")
    assert shown() == pytest.approx(25, abs=2)


def test_a_batch_of_three_tells_each_file_and_keeps_each_text(person: Person) -> None:
    begin(person, "batch", "Nearest")
    for number, colour in enumerate(("red", "green", "blue")):
        person.drop("#extras_input .dropzone", picture(64 + 8 * number, colour, f"text {number}"), f"file-{number}.png")
        person.page.wait_for_function("count => document.querySelectorAll('#extras_input .pile button').length === count", arg=number + 1)
    before = results(person)
    run(person)
    assert results(person) == before + 3
    rows = person.page.locator("#extras_files li")
    assert rows.locator("strong").all_inner_texts() == ["file-0.png", "file-1.png", "file-2.png"]
    assert rows.locator(".words").all_inner_texts() == ["Done, 128 × 128", "Done, 144 × 144", "Done, 160 × 160"]
    for number in range(3):
        rows.nth(number).locator("button").click()
        made = opened(person.picture_file("extras"))
        assert (made.info["parameters"], made.size[0]) == (f"text {number}", 128 + 16 * number)
        assert made.getpixel((2, 2)) == [(255, 0, 0), (0, 128, 0), (0, 0, 255)][number]


def test_a_folder_of_ones_own_is_added_to_the_batch_and_what_is_no_picture_is_told(person: Person, tmp_path: Path) -> None:
    begin(person, "batch", "Nearest")
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(picture(64, "red", name))
    (tmp_path / "notes.txt").write_text("no picture")
    person.page.set_input_files("#extras_batch_folder", tmp_path)
    person.wait_for_toast("1 file is no picture and was left out.")
    person.page.wait_for_function("document.querySelectorAll('#extras_input .pile button').length === 2")
    person.page.click("#extras_batch_empty")
    assert person.page.locator("#extras_input .pile button").count() == 0


def test_a_click_into_the_list_of_upscalers_and_what_one_types_finds_another(person: Person) -> None:
    person.open("extras")
    person.page.wait_for_function("document.querySelector('#extras_upscaler_1 input').value !== ''")
    person.page.click("#extras_upscaler_1 input")
    person.page.keyboard.type("near", delay=50)
    person.page.locator("#extras_upscaler_1 [role=option]", has_text="Nearest").wait_for()
    person.page.wait_for_function("document.querySelectorAll('#extras_upscaler_1 [role=option]').length === 1")
    person.page.keyboard.press("Enter")
    person.page.wait_for_function("document.querySelector('#extras_upscaler_1 input').value === 'Nearest'")


def test_a_size_is_reached_exactly(person: Person) -> None:
    begin(person)
    person.drop("#extras_input .dropzone", picture(), "one.png")
    person.page.click("#extras_resize_mode label:has-text('Scale to')")
    person.write("extras_upscaling_resize_w", 300)
    person.write("extras_upscaling_resize_h", 200)
    person.page.locator("#extras_sizes", has_text="128 × 128 → 300 × 200").wait_for()
    run(person)
    assert opened(person.picture_file("extras")).size == (300, 200)


def test_skip_drops_the_file_in_hand_and_interrupt_ends_the_job(person: Person) -> None:
    begin(person, "batch", "4x-Slow")
    for number in range(3):
        person.drop("#extras_input .dropzone", picture(512, "teal", f"slow {number}"), f"slow-{number}.png")
        person.page.wait_for_function("count => document.querySelectorAll('#extras_input .pile button').length === count", arg=number + 1)
    before = results(person)
    person.generate("extras")
    words = person.page.locator("#extras_files li .words")
    words.first.filter(has_text="%").wait_for()
    person.page.click("#extras_skip")
    words.first.filter(has_text="Skipped").wait_for()
    words.nth(1).filter(has_text="%").wait_for()
    person.page.click("#extras_interrupt")
    person.wait_for_end("extras")
    assert person.status("extras") == "interrupted"
    assert words.all_inner_texts() == ["Skipped", "Interrupted", "Interrupted"]
    assert results(person) == before


def test_a_finished_picture_comes_here_and_goes_on(person: Person) -> None:
    for element, value in {"prompt": "a red circle on a blue background", "seed": 3, "steps": 2}.items():
        person.write(f"txt2img_{element}", value)
    made = person.make_picture("txt2img")
    person.page.click("#txt2img_send_to_extras")
    person.page.locator("#extras_sizes", has_text="128 × 128").wait_for()
    person.choose("extras_upscaler_1", "easel-world-x2")
    run(person)
    larger = opened(person.picture_file("extras"))
    assert larger.info["parameters"] == made.info["parameters"]
    assert np.abs(np.asarray(larger.resize((128, 128), Image.Resampling.BOX), int) - np.asarray(made, int)).mean() < 4
    person.page.click("#extras_send_to_png_info")
    person.page.locator("#pnginfo_panel", has_text="Postprocess upscaler: easel-world-x2").wait_for()
    person.open("extras")
    person.page.click("#extras_send_to_img2img")
    person.wait_for_value("img2img_prompt", "a red circle on a blue background")


def test_a_folder_of_outputs_is_worked_on(person: Person, server: Server) -> None:
    folder = server.data_dir / "outputs" / "a-few"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        (folder / f"{number}.png").write_bytes(picture(64, "navy", f"folder {number}"))
    begin(person, "folder", "Nearest")
    person.page.select_option("#extras_folder", label="a-few (2 pictures)")
    run(person)
    assert person.page.locator("#extras_files strong").all_inner_texts() == ["0.png", "1.png"]
    assert opened(person.picture_file("extras")).info["parameters"] == "folder 0"


def test_without_a_picture_it_says_so_and_settings_survive_a_reload(person: Person) -> None:
    begin(person, upscaler="Nearest")
    person.page.click("#extras_generate")
    person.wait_for_toast("There is no picture yet")
    person.write("extras_upscaling_resize", 3)
    person.page.wait_for_timeout(500)
    person.page.reload()
    person.ready(person.page)
    assert person.value("extras_upscaler_1") == "Nearest"
    assert person.value("extras_upscaling_resize") == "3"


def test_a_model_is_offered_to_hires_fix_and_named_in_the_infotext(person: Person) -> None:
    person.page.click("#txt2img_hr button")
    person.page.click("#txt2img_enable_hr input")
    person.choose("txt2img_hr_upscaler", "easel-world-x2")
    for element, value in {"prompt": "a red circle", "seed": 3, "steps": 2, "hr_scale": 1.5}.items():
        person.write(f"txt2img_{element}", value)
    made = person.make_picture("txt2img")
    assert made.size == (192, 192)
    assert "Hires upscaler: easel-world-x2" in made.info["parameters"]
    assert '"upscaler easel-world-x2":' in made.info["easel_recipe"]


def test_on_a_phone_nothing_is_wider_than_the_page(person: Person) -> None:
    person.page.set_viewport_size({"width": 390, "height": 844})
    begin(person)
    person.drop("#extras_input .dropzone", picture(), "one.png")
    run(person)
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert io.BytesIO(person.page.screenshot()).getbuffer().nbytes > 1000
