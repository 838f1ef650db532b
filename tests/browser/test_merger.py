"""The merger's tab: a person merges two checkpoints, sees how far it is, and makes a picture with the new one."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file
from safetensors.torch import load_file

from tests.browser.conftest import ROOT, Person, Server
from tests.judge import judge

MINIATURE = ROOT / "models/Stable-diffusion/easel-miniature.safetensors"
NAME = "model.diffusion_model.out.2.weight"


@pytest.fixture(scope="module", autouse=True)
def stronger(server: Server) -> Iterator[None]:
    """A second checkpoint, a little other than the miniature."""
    folder = server.data_dir / "models/Stable-diffusion"
    before = set(folder.iterdir())
    tensors = load_arrays(MINIATURE)
    save_file({name: tensor * 1.04 if name == NAME else tensor for name, tensor in tensors.items()}, folder / "stronger.safetensors")
    yield
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def orders(person: Person) -> list[str]:
    return person.page.locator(".orders-list li .words").all_inner_texts()


def wait_for_order(person: Person, text: str) -> None:
    person.page.locator(".orders-list li .words", has_text=text).first.wait_for()


def test_two_checkpoints_are_merged_and_the_new_one_makes_pictures(person: Person, server: Server) -> None:
    person.page.click("#refresh_checkpoints")
    person.open("merger")
    person.choose("modelmerger_primary_model_name", "easel-miniature")
    person.choose("modelmerger_secondary_model_name", "stronger")
    person.write("modelmerger_interp_amount", 0.5)
    person.write("modelmerger_custom_name", "child")
    person.page.click("#modelmerger_precision label:has-text('fp32')")
    person.page.click("#modelmerger_merge")
    wait_for_order(person, "Done")
    child, parent = load_file(server.data_dir / "models/Stable-diffusion/child.safetensors"), load_file(MINIATURE)
    assert child[NAME].dtype == torch.float32
    assert torch.allclose(child[NAME], parent[NAME].float() * 1.02, rtol=1e-3)
    person.page.click("#modelmerger_merge")
    wait_for_order(person, "child.safetensors exists already")
    assert len(orders(person)) == 2
    person.choose("setting_checkpoint", "child")
    person.open("txt2img")
    person.write("txt2img_prompt", "a red circle on a blue background")
    seen = judge(person.make_picture("txt2img"))
    assert (seen.object, seen.colour, seen.background) == ("circle", "red", "blue")
    person.choose("setting_checkpoint", "easel-miniature")


def test_an_order_that_lacks_something_says_what(person: Person) -> None:
    person.open("merger")
    person.page.click("#modelsave_save")
    person.wait_for_toast("no checkpoint to save")
    person.choose("modelsave_checkpoint", "easel-miniature")
    person.page.click("#modelsave_save")
    person.wait_for_toast("The new checkpoint has no name")


def test_a_checkpoint_is_saved_in_another_number_type(person: Person, server: Server) -> None:
    person.open("merger")
    person.choose("modelsave_checkpoint", "easel-miniature")
    person.write("modelsave_name", "brain")
    person.page.click("#modelsave_precision label:has-text('bf16')")
    person.page.click("#modelsave_save")
    wait_for_order(person, "Done")
    saved, parent = load_file(server.data_dir / "models/Stable-diffusion/brain.safetensors"), load_file(MINIATURE)
    assert torch.equal(saved[NAME], parent[NAME].to(torch.bfloat16))
    assert person.complaints == []


def test_a_diffusers_folder_is_one_checkpoint_and_makes_the_same_picture(person: Person, server: Server) -> None:
    person.open("merger")
    person.choose("modelsave_checkpoint", "easel-miniature")
    person.write("modelsave_name", "parts")
    person.page.click("#modelsave_layout label:has-text('diffusers folder')")
    person.page.click("#modelsave_save")
    wait_for_order(person, "Done")
    person.open("txt2img")
    for element, value in {"prompt": "a red circle on a blue background", "seed": 3, "steps": 8}.items():
        person.write(f"txt2img_{element}", value)
    person.choose("setting_checkpoint", "easel-miniature")
    before = person.make_picture("txt2img")
    person.choose("setting_checkpoint", "parts")
    assert person.make_picture("txt2img").tobytes() == before.tobytes()
    assert "Model: parts" in person.page.locator("#txt2img_infotext").inner_text()
    person.choose("setting_checkpoint", "easel-miniature")
