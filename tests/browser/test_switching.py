"""Checkpoints, VAEs and networks in the page: each job keeps its own, nobody changes another's, and a picture brings all of them back."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from safetensors.numpy import load_file, save_file

from tests.browser.conftest import ROOT, Person, Server, opened

PROMPT = "a red circle on a blue background"
NETWORKS = "a valentine on a white background <lora:starlit:0.5> <hypernet:golden:0.5>"
VAE_PREFIX = "first_stage_model."
SHIPPED = {"loras": "starlit.safetensors", "embeddings": "valentine.safetensors", "models/hypernetworks": "golden.pt"}


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> Iterator[None]:
    """A second checkpoint and a VAE, each a little other than the miniature's; and the networks that ship."""
    tensors = load_file(ROOT / "models/Stable-diffusion/easel-miniature.safetensors")
    changed = {name: tensor * 1.02 if name.endswith("out.2.weight") else tensor for name, tensor in tensors.items()}
    vae = {name.removeprefix(VAE_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(VAE_PREFIX)}
    vae["decoder.conv_out.bias"] = vae["decoder.conv_out.bias"] + 0.3
    made = [server.data_dir / "models/Stable-diffusion/other.safetensors", server.data_dir / "models/VAE/bright.safetensors"]
    for path, content in zip(made, (changed, vae), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(content, path)
    for folder, name in SHIPPED.items():
        (server.data_dir / folder).mkdir(parents=True, exist_ok=True)
        made.append(server.data_dir / folder / name)
        shutil.copy(ROOT / folder / name, made[-1])
    yield
    for path in made:
        path.unlink(missing_ok=True)


def refresh(person: Person) -> None:
    """Press the arrow, and look at the page anew until the new checkpoint is offered."""
    person.page.click("#refresh_checkpoints")
    for _ in range(20):
        person.page.wait_for_timeout(500)
        person.page.click("#setting_checkpoint input")
        offered = person.page.locator("#setting_checkpoint [role=option]").all_inner_texts()
        person.page.locator("#setting_checkpoint input").blur()
        if any("other" in each for each in offered):
            return
    raise AssertionError("the new checkpoint is never offered")


def pictures(person: Person) -> list[tuple[str, bytes]]:
    """Infotext and pixels of the pictures beside the stage, the newest first."""
    told = person.page.evaluate("easel.results.txt2img.pictures.map((each) => [each.infotext, easel.results.txt2img.address(each)])")
    return [(text, opened(person.page.request.get(address).body()).tobytes()) for text, address in told]


def test_a_switch_while_a_job_runs_is_for_the_next_job_alone(person: Person, browser: Browser, server: Server) -> None:
    refresh(person)
    stranger = Person(browser.new_context(), server.address)
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 40)
    person.write("txt2img_seed", 77)
    person.generate("txt2img")
    person.page.wait_for_function("easel.results.txt2img.current()?.step > 2")
    person.choose("setting_checkpoint", "other")
    person.choose("setting_vae", "bright")
    person.generate("txt2img")
    person.page.wait_for_function("easel.results.txt2img.pictures.length === 2")
    (new_text, new_pixels), (old_text, old_pixels) = pictures(person)
    assert "Model: easel-miniature," in old_text
    assert "VAE:" not in old_text
    assert "Model: other," in new_text
    assert "VAE: bright.safetensors" in new_text
    assert stranger.page.locator("#setting_checkpoint input").input_value().startswith("easel-miniature")
    stranger.context.close()
    person.choose("setting_checkpoint", "easel-miniature")
    person.choose("setting_vae", "Automatic")
    person.make_picture("txt2img")
    assert pictures(person)[0][1] == old_pixels != new_pixels


def test_a_dropped_png_brings_back_checkpoint_vae_clip_skip_and_networks_and_the_same_picture(
    person: Person, browser: Browser, server: Server
) -> None:
    refresh(person)
    person.choose("setting_checkpoint", "other")
    person.choose("setting_vae", "bright")
    settings = {"prompt": NETWORKS, "neg_prompt": "green", "steps": 6, "seed": 2**40 + 1, "width": 96, "height": 128}
    for element, value in settings.items():
        person.write(f"txt2img_{element}", value)
    person.write("setting_clip_skip", 2)
    picture = person.make_picture("txt2img")
    data = person.picture_file("txt2img")
    newcomer = Person(browser.new_context(), server.address)
    newcomer.open("png_info")
    newcomer.drop("#pnginfo_panel .dropzone", data, "mine.png")
    table = newcomer.page.locator("#pnginfo_table")
    for key in ("Model hash", "VAE hash", "Lora hashes", "TI hashes"):
        table.locator("tr", has_text=key).wait_for()
    newcomer.page.click("#pnginfo_send_to_txt2img")
    for element, value in settings.items():
        newcomer.wait_for_value(f"txt2img_{element}", value)
    chips = newcomer.page.locator("#overrides .override b")
    assert chips.all_inner_texts() == ["other.safetensors", "bright.safetensors", "2"]
    assert newcomer.page.locator("#setting_checkpoint input").input_value().startswith("easel-miniature")
    assert newcomer.make_picture("txt2img").tobytes() == picture.tobytes()
    assert newcomer.complaints == []
    newcomer.context.close()


def test_a_refiner_makes_the_last_steps_and_comes_back_with_its_picture(person: Person) -> None:
    refresh(person)
    person.page.reload()  # the list of refiners is made with the page
    settings = {"prompt": PROMPT, "steps": 5, "seed": 7}
    for element, value in settings.items():
        person.write(f"txt2img_{element}", value)
    person.make_picture("txt2img")
    person.page.click("#txt2img_refiner > button")
    person.page.check("#txt2img_enable_refiner input")
    person.choose("txt2img_refiner_checkpoint", "other")
    person.write("txt2img_refiner_switch_at", 0.4)
    person.make_picture("txt2img")
    (refined_text, refined), (_, alone) = pictures(person)
    assert "Model: easel-miniature," in refined_text
    assert ", Refiner: other" in refined_text
    assert ", Refiner switch at: 0.4," in refined_text
    assert refined != alone
    person.page.uncheck("#txt2img_enable_refiner input")
    person.write("txt2img_refiner_switch_at", 0.9)
    person.write("txt2img_prompt", "")
    person.page.click("#txt2img_paste")
    person.wait_for_value("txt2img_refiner_switch_at", 0.4)
    assert person.page.is_checked("#txt2img_enable_refiner input")
    person.make_picture("txt2img")
    assert pictures(person)[0][1] == refined
