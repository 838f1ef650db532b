"""Pictures and parameters from everywhere: each tab they are sent to, odd texts, other programs' files, large files and no pictures."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.browser.conftest import Person

ODD = """a "quoted, with commas" thing,
on a second line, and
a third: with a colon
Negative prompt: dull, grey
also in two lines
Steps: 21, Sampler: Euler a, CFG scale: a lot, Seed: 4242, Size: 192x128, Nobody knows: "this, and that", Model: not-here, Clip skip: 2"""
SENT = "a house\nNegative prompt: rain\nSteps: 17, Sampler: Euler, CFG scale: 6, Seed: 99, Size: 192x128"


def png(text: str = "", mode: str = "RGB", **chunks: str) -> bytes:
    info = PngInfo()
    for name, value in (({"parameters": text} if text else {}) | chunks).items():
        info.add_text(name, value)
    buffer = io.BytesIO()
    Image.new(mode, (192, 128), "teal").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def looked_at(person: Person, data: bytes, name: str = "picture.png") -> None:
    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", data, name)
    person.page.locator("#pnginfo_panel .report").wait_for()


OTHERS = [pytest.param(target, marks=pytest.mark.slow) for target in ("txt2img", "img2img", "outpaint")]


@pytest.mark.parametrize("target", ["inpaint", *OTHERS])
def test_a_transparent_picture_arrives_on_the_tab_it_is_sent_to_with_its_parameters(person: Person, target: str) -> None:
    looked_at(person, png(SENT, "RGBA"))
    person.page.click(f"#pnginfo_send_to_{target}")
    tab = "img2img" if target == "inpaint" else target
    for element, value in (("prompt", "a house"), ("neg_prompt", "rain"), ("steps", 17), ("seed", 99)):
        person.wait_for_value(f"{tab}_{element}", value)
    assert person.page.evaluate("easel.currentTab()") == tab
    if tab != "txt2img":
        person.page.wait_for_function("tab => easel.canvases[tab].width === 192 && easel.canvases[tab].height === 128", arg=tab)
    assert person.page.evaluate("easel.canvases.img2img.inpainting") == (target == "inpaint")


def test_a_picture_arrives_on_extras(person: Person) -> None:
    looked_at(person, png(SENT))
    person.page.click("#pnginfo_send_to_extras")
    person.page.locator("#extras_input .dropzone img").wait_for()


def test_odd_fields_missing_models_and_commas_in_quotes_spoil_nothing_else(person: Person) -> None:
    person.write("txt2img_prompt", ODD)
    person.write("txt2img_cfg_scale", 3)
    person.page.click("#txt2img_paste")
    person.wait_for_toast("not-here")
    person.wait_for_toast("a lot")
    prompt, _, rest = ODD.partition("\nNegative prompt: ")
    for element, value in (
        ("prompt", prompt),
        ("neg_prompt", rest.partition("\nSteps")[0]),
        ("steps", 21),
        ("seed", 4242),
        ("cfg_scale", 3),
    ):
        person.wait_for_value(f"txt2img_{element}", value)
    person.wait_for_value("txt2img_width", 192)
    assert person.page.locator("#overrides .override[data-name=clip_skip] b").inner_text() == "2"


def test_the_paste_arrow_beside_an_empty_prompt_takes_the_last_picture(person: Person) -> None:
    person.write("txt2img_prompt", "a blue star")
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    person.write("txt2img_prompt", "")
    person.write("txt2img_steps", 9)
    person.page.click("#txt2img_paste")
    person.wait_for_value("txt2img_prompt", "a blue star")
    person.wait_for_value("txt2img_steps", 2)


INVOKE = {
    "app_version": "5.0",
    "positive_prompt": "a fox",
    "negative_prompt": "snow",
    "seed": 7,
    "steps": 12,
    "cfg_scale": 5.5,
    "scheduler": "euler",
}
FOOOCUS = {
    "prompt": "a fox",
    "negative_prompt": "snow",
    "seed": "7",
    "steps": 12,
    "guidance_scale": 5.5,
    "sampler": "euler",
    "scheduler": "karras",
}


@pytest.mark.parametrize(
    ("program", "chunks"),
    [
        ("InvokeAI", {"invokeai_metadata": json.dumps(INVOKE)}),
        ("Fooocus", {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}),
    ],
)
def test_pictures_of_other_programs_fill_the_tab(person: Person, program: str, chunks: dict[str, str]) -> None:
    looked_at(person, png(**chunks))
    assert program in person.page.locator("#pnginfo_source").inner_text()
    person.page.click("#pnginfo_send_to_txt2img")
    for element, value in (("prompt", "a fox"), ("neg_prompt", "snow"), ("seed", 7), ("steps", 12), ("cfg_scale", 5.5)):
        person.wait_for_value(f"txt2img_{element}", value)


def test_a_text_file_that_is_named_png_is_refused_everywhere_with_a_sentence(person: Person) -> None:
    for tab, place in (
        ("png_info", "#pnginfo_panel .dropzone"),
        ("img2img", "#img2img_canvas .area"),
        ("txt2img", "#txt2img_prompt textarea"),
    ):
        person.open(tab)
        person.drop(place, b"just words", "words.png")
        person.wait_for_toast("picture")
        person.page.evaluate("document.querySelectorAll('#easel_toasts .note').forEach((note) => note.remove())")
    person.open("txt2img")
    person.write("txt2img_steps", 1)
    person.make_picture("txt2img")


@pytest.mark.slow
def test_a_picture_of_fifty_megabytes_is_read(person: Person, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3600, 4800, 3), np.uint8)
    info = PngInfo()
    info.add_text("parameters", SENT)
    path = tmp_path / "large.png"
    Image.fromarray(noise).save(path, pnginfo=info, compress_level=0)
    assert path.stat().st_size > 50e6
    person.open("png_info")
    person.page.set_input_files("#pnginfo_file", path)
    person.page.locator("#pnginfo_table", has_text="a house").wait_for()
    assert "4800 × 3600" in person.page.locator("#pnginfo_source").inner_text()
    person.page.click("#pnginfo_send_to_img2img")
    person.wait_for_value("img2img_steps", 17)
    person.page.wait_for_function("easel.canvases.img2img.width === 4800")
