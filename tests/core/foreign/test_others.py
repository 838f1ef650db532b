"""Recipes of Fooocus, SwarmUI, SD.Next and Civitai, written by hand as they write them."""

import json
from typing import Any

from webui.core import infotext
from webui.core.foreign import others
from webui.core.foreign.translation import Translation
from webui.core.named_models import NamedModel
from webui.core.request import GenerationRequest


def request(translation: Translation | None) -> GenerationRequest:
    assert translation is not None
    return infotext.to_request(infotext.read(translation.text), GenerationRequest())[0]


FOOOCUS: dict[str, Any] = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8.safetensors",
    "base_model_hash": "aeb7e9e689",
    "clip_skip": 2,
    "guidance_scale": 4,
    "loras": [["ink.safetensors", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "blur",
    "performance": "Speed",
    "prompt": "a fox",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "123456789012",
    "sharpness": 2,
    "steps": 30,
    "styles": "['Fooocus V2']",
    "vae": "Default (model)",
    "version": "Fooocus v2.5.5",
}


def test_fooocus() -> None:
    translation = others.fooocus({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"})
    made = request(translation)
    assert (made.prompt, made.negative_prompt) == ("a fox <lora:ink:0.1>", "blur")
    assert (made.steps, made.sampler, made.schedule_type, made.cfg_scale) == (30, "DPM++ 2M SDE", "Karras", 4)
    assert (made.seed, made.width, made.height, made.checkpoint_hash) == (123456789012, 1152, 896, "aeb7e9e689")
    assert made.rng == "CPU"
    assert translation is not None
    assert [note.name for note in translation.notes] == ["styles", "sharpness", "adm_guidance"]


def test_fooocus_in_the_scheme_of_a1111_is_left_as_it_is() -> None:
    assert others.fooocus({"parameters": "a fox\nSteps: 30, Seed: 1, Size: 64x64", "fooocus_scheme": "a1111"}) is None


def test_swarmui() -> None:
    told = {
        "prompt": "a fox",
        "negativeprompt": "blur",
        "model": "sub/v1-5",
        "seed": 5,
        "steps": 20,
        "cfgscale": 7.0,
        "width": 512,
        "height": 768,
        "sampler": "euler_ancestral",
        "scheduler": "karras",
        "loras": ["ink"],
        "loraweights": ["0.5"],
    }
    made = request(others.swarmui(json.dumps({"sui_image_params": told})))
    assert (made.prompt, made.negative_prompt, made.checkpoint) == ("a fox <lora:ink:0.5>", "blur", "v1-5")
    assert (made.seed, made.steps, made.cfg_scale, made.width, made.sampler) == (5, 20, 7, 512, "Euler a")
    assert made.rng == "CPU"  # as ComfyUI, which it draws with


def test_sdnext_writes_some_keys_in_its_own_way() -> None:
    text = "a fox\nNegative prompt: blur\nSteps: 20, Size: 512x512, Sampler: Euler a, Seed: 3, CFG scale: 6, CLiP-skip: 2, App: SD.Next"
    made = request(others.sdnext(text))
    assert (made.prompt, made.negative_prompt, made.clip_skip, made.steps) == ("a fox", "blur", 2, 20)
    assert others.sdnext("a fox\nSteps: 20, Seed: 3, App: SD.Next") is None


def test_sdnexts_rescaling_of_the_guidance_is_ours() -> None:
    made = request(others.sdnext("a fox\nSteps: 20, Seed: 3, Size: 64x64, CFG rescale: 0.7, App: SD.Next"))
    assert made.guidance is not None
    assert made.guidance.rescale == 0.7


def test_fooocus_default_vae_is_none_that_was_chosen() -> None:
    text = "a fox\nSteps: 30, Seed: 1, Size: 64x64, VAE: Default (model), Styles: \"['A', 'B']\", Version: Fooocus v2.5.5"
    translation = others.fooocus({"parameters": text})
    assert translation is not None
    assert translation.text == text.replace("VAE: Default (model), ", "")
    assert others.fooocus({"parameters": text.replace("Default (model)", "sharp")}) is None


def with_resources(prompt: str, *used: dict[str, Any]) -> Translation:
    return others.civitai(f"{prompt}\nSteps: 20, Seed: 3, Sampler: Euler, Civitai resources: {json.dumps(used)}")


INK = {"type": "lora", "weight": 0.8, "modelName": "Ink, wet"}


def test_civitais_resources_without_a_tag_are_named() -> None:
    (note,) = with_resources("a fox", INK).notes
    assert note.name == "Ink, wet"
    assert "0.8" in note.sentence
    assert with_resources("a fox <lora:ink:0.8>", INK).notes == ()
    assert others.civitai("a fox\nSteps: 20, Civitai resources: [").notes == ()


def test_a_tag_speaks_for_its_own_network_only() -> None:
    (note,) = with_resources("a fox <lora:ink_wet_v2:1>", INK, {"type": "lora", "modelName": "More details"}).notes
    assert note.name == "More details"


def test_an_embedding_in_the_prompt_needs_no_tag() -> None:
    used = {"type": "embed", "modelName": "EasyNegative"}
    assert with_resources("a fox\nNegative prompt: easynegative", used).notes == ()
    assert [note.name for note in with_resources("a fox", used).notes] == ["EasyNegative"]


def test_civitais_checkpoint_is_told_where_the_text_names_none() -> None:
    used = {"type": "checkpoint", "modelName": "Dream"}
    assert with_resources("a fox", used).models == (NamedModel("checkpoint", "Dream"),)
    assert others.civitai(f"a fox\nSteps: 20, Seed: 3, Model: x, Civitai resources: {json.dumps([used])}").models == ()


def test_civitais_resources_without_a_name_are_told_by_their_number() -> None:
    notes = with_resources("a fox <lora:ink:1>", {"air": "urn:air:sd1:lora:civitai:1@2"}, {"type": "lora", "modelVersionId": 77}).notes
    assert [note.name for note in notes] == ["lora 1@2", "lora 77"]


def test_the_variant_of_unipc_is_told() -> None:
    made = request(others.swarmui(json.dumps({"sui_image_params": {"prompt": "a fox", "steps": 5, "seed": 1, "sampler": "uni_pc_bh2"}})))
    assert made.sampler_options is not None
    assert (made.sampler, made.sampler_options.unipc_variant) == ("UniPC", "bh2")
