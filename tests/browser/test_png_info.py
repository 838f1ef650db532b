import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.browser.conftest import Person

A1111 = "a house by the sea\nNegative prompt: blurry\nSteps: 13, Sampler: LMS Karras, CFG scale: 6, Seed: 99, Size: 192x128, Model: gone"


def encoded(kind: str) -> bytes:
    """A picture as A1111 writes it: in JPEG and WebP the text is EXIF's UserComment."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (192, 128), "teal").save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_file_of_a1111_is_read_and_sent_on_with_picture_and_parameters(person: Person, kind: str) -> None:
    page = person.page
    person.open("png_info")
    page.set_input_files("#pnginfo_file", {"name": f"made.{kind.lower()}", "mimeType": f"image/{kind.lower()}", "buffer": encoded(kind)})
    page.locator("#pnginfo_table", has_text="a house by the sea").wait_for()
    assert "192x128" in page.locator("#pnginfo_table").inner_text()
    page.click("#pnginfo_send_to_img2img")
    person.wait_for_toast("gone")  # the checkpoint is not here, and that is said
    for element, value in (("prompt", "a house by the sea"), ("steps", 13), ("seed", 99), ("width", 192), ("scheduler", "Karras")):
        person.wait_for_value(f"img2img_{element}", value)
    page.wait_for_function("easel.canvases.img2img.width === 192")


def test_a_picture_without_parameters_and_a_file_that_is_none_are_told(person: Person, wide_png: bytes) -> None:
    page = person.page
    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", wide_png, "plain.png")
    page.locator("#pnginfo_text", has_text="no generation parameters").wait_for()
    person.drop("#pnginfo_panel .dropzone", b"hello", "text.png")
    page.wait_for_selector("#easel_toasts .note")
    person.open("txt2img")
    person.drop("#txt2img_prompt textarea", wide_png, "plain.png")
    person.wait_for_toast("carries no generation parameters")


def test_a_damaged_text_in_a_picture_is_shown_and_breaks_nothing(person: Person) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    broken = b"\0\0\0\x0btEXtparameters" + b"\xff" * 4  # a chunk that says it is longer than it is, with a wrong checksum
    data = buffer.getvalue()
    at = data.index(b"IDAT") - 4
    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", data[:at] + broken + data[at:], "broken.png")
    person.page.wait_for_selector("#pnginfo_panel .report:not([hidden]), #easel_toasts .note")


def test_a_picture_of_easels_is_replayed_and_judged(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_steps", 3)
    person.make_picture("txt2img")
    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", person.picture_file("txt2img"), "mine.png")
    page.click("#pnginfo_replay")
    page.locator("#pnginfo_verdict[data-kind=identical]").wait_for()
    assert "every pixel is the same" in page.locator("#pnginfo_verdict").inner_text()


def test_a_picture_of_comfyuis_is_translated_and_what_it_loses_is_told(person: Person) -> None:
    page = person.page
    graph = {
        "1": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 7,
                "steps": 11,
                "cfg": 5,
                "sampler_name": "euler",
                "scheduler": "karras",
                "positive": ["2", 0],
                "model": ["3", 0],
            },
        },
        "3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "easel-miniatur.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a house by the sea"}},
    }
    chunks = PngInfo()
    chunks.add_text("prompt", json.dumps(graph))
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG", pnginfo=chunks)
    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", buffer.getvalue(), "comfy.png")
    page.locator("#pnginfo_notes", has_text="ComfyUI weighs words in another way").wait_for()
    notes = page.locator("#pnginfo_notes").inner_text()
    assert "checkpoint easel-miniatur (missing)" in notes
    assert "the nearest name here is easel-miniature.safetensors" in notes
    assert page.locator("#pnginfo_replay").is_hidden()
    page.click("#pnginfo_send_to_txt2img")
    for element, value in (("prompt", "a house by the sea"), ("steps", 11), ("seed", 7), ("cfg_scale", 5), ("scheduler", "Karras")):
        person.wait_for_value(f"txt2img_{element}", value)


def test_what_is_not_ticked_is_not_sent_on(person: Person) -> None:
    page = person.page
    person.write("txt2img_seed", 5)
    person.open("png_info")
    page.set_input_files("#pnginfo_file", {"name": "made.jpeg", "mimeType": "image/jpeg", "buffer": encoded("JPEG")})
    page.uncheck("#pnginfo_table input[data-name=Seed]")
    page.click("#pnginfo_send_to_txt2img")
    person.wait_for_value("txt2img_steps", 13)
    assert person.value("txt2img_seed") == "5"
