"""The Train tab: pictures with captions become a LoRA that is tried at once."""

import io

from PIL import Image
from playwright.sync_api import Page

from tests.browser.conftest import Person, Server


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def with_new_set(person: Person, name: str) -> Page:
    """The page on its Train tab with a new, empty data set."""
    page = person.page
    person.open("train")
    page.click("#train_new_set")
    page.fill("#dialog_text", name)
    page.keyboard.press("Enter")
    page.locator(f"#train_sets option[value={name}]").wait_for(state="attached")
    return page


def test_dropped_pictures_with_captions_become_a_lora_that_is_tried_in_txt2img(person: Person, server: Server) -> None:
    page = with_new_set(person, "colours")
    for colour in ("red", "blue"):
        person.drop("#train_drop", picture(colour), f"{colour}.png")
        page.locator(f".train-picture[data-file='{colour}.png']").wait_for()
    caption = page.locator(".train-picture[data-file='red.png'] textarea")
    caption.fill("a red square")
    caption.blur()
    page.select_option("#train_checkpoint", "easel-miniature.safetensors")
    fields = {"name": "squares", "steps": 4, "rank": 2, "side": 64, "sample_every": 2, "sample_prompt": "a red square", "batch_size": 1}
    for name, value in fields.items():
        page.fill(f"#train_{name}", str(value))
    page.wait_for_function("document.getElementById('train_estimate').textContent === '2 pictures, each seen about 2.0 times'")
    page.click("#train_start")
    run = page.locator(".train-run[data-status=done]").first
    run.wait_for()
    run.locator(".train-curve polyline").wait_for(state="attached")
    assert [figure.inner_text() for figure in run.locator("figcaption").all()] == ["2", "4"]
    assert (server.data_dir / "training/colours/red.txt").read_text("utf-8") == "a red square"
    assert (server.data_dir / "loras/squares.safetensors").exists()
    page.reload()
    person.ready(page)
    page.locator(".train-run[data-status=done] .send").first.click()
    person.wait_for_value("txt2img_prompt", "<lora:squares:1>")
    person.write("txt2img_steps", 1)
    person.make_picture("txt2img")
    assert 'Lora hashes: "squares: ' in page.inner_text("#txt2img_infotext")


def test_a_caption_that_is_half_typed_when_the_page_is_closed_is_there_again_and_saved(person: Person, server: Server) -> None:
    page = with_new_set(person, "closed")
    person.drop("#train_drop", picture("red"), "red.png")
    caption = page.locator(".train-picture[data-file='red.png'] textarea")
    caption.press_sequentially("a red squ")
    page.reload()
    person.ready(page)
    caption.wait_for()
    assert caption.input_value() == "a red squ"
    page.wait_for_function("Object.keys(easel.stored('captions_1', {})).length === 0")
    assert (server.data_dir / "training/closed/red.txt").read_text("utf-8") == "a red squ"


def test_an_aesthetic_embedding_asks_for_its_pictures_alone_and_without_clip_says_where_to_put_it(person: Person, server: Server) -> None:
    page = person.page
    person.open("train")
    page.locator("#train_sets option").first.wait_for(state="attached")
    person.drop("#train_drop", picture("red"), "red.png")
    page.locator(".train-picture").first.wait_for()
    page.select_option("#train_kind", "aesthetic")
    asked = [field.get_attribute("id") for field in page.locator(".train-form input:visible, .train-form select:visible").all()]
    assert asked == ["train_kind", "train_name"]
    page.fill("#train_name", "soft light")
    page.click("#train_start")
    run = page.locator(".train-run[data-status=failed]", has_text="Aesthetic embedding soft light")
    run.wait_for()
    place = server.data_dir / "models" / "CLIP"
    assert f"put config.json and model.safetensors of openai/clip-vit-large-patch14 (1.7 GB) into {place}" in run.inner_text()


def test_a_training_that_is_stopped_keeps_what_it_learnt(person: Person, server: Server) -> None:
    page = person.page
    person.open("train")
    page.locator("#train_sets option").first.wait_for(state="attached")
    person.drop("#train_drop", picture("green"), "green.png")
    page.locator(".train-picture").first.wait_for()
    page.select_option("#train_checkpoint", "easel-miniature.safetensors")
    page.select_option("#train_kind", "embedding")
    for name, value in {"name": "greenish", "steps": 100000, "side": 64}.items():
        page.fill(f"#train_{name}", str(value))
    page.click("#train_start")
    run = page.locator(".train-run").first
    run.locator(".words", has_text="loss").wait_for()
    run.get_by_role("button", name="Stop and save").click()
    page.locator(".train-run[data-status=interrupted]").first.wait_for()
    assert (server.data_dir / "embeddings/greenish.safetensors").exists()
    run.get_by_role("button", name="Go on").click()
    again = page.locator(".train-run:not([data-status=interrupted]) .words", has_text="loss")
    again.first.wait_for()
    page.locator(".train-run").first.get_by_role("button", name="Stop and save").click()
    page.wait_for_function("document.querySelectorAll('.train-run[data-status=interrupted]').length === 2")
