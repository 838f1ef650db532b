"""ComfyUI's graphs, written by hand as it writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.core import infotext
from webui.core.foreign import comfyui
from webui.core.foreign.translation import APPROXIMATED, NOT_UNDERSTOOD, Translation
from webui.core.request import GenerationRequest


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}


def usual() -> dict[str, Any]:
    """The graph that ComfyUI opens with, and a LoRA."""
    return {
        "3": node(
            "KSampler",
            seed=2**40,
            steps=20,
            cfg=6.5,
            sampler_name="dpmpp_2m",
            scheduler="karras",
            denoise=1.0,
            model=["10", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd15\\v1-5-pruned.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="a [red] fox, (fur:1.2), embedding:soft", clip=["10", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["10", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
        "10": node("LoraLoader", lora_name="style/ink.safetensors", strength_model=0.8, strength_clip=0.5, model=["4", 0], clip=["4", 1]),
    }


def told(graph: dict[str, Any]) -> Translation:
    translation = comfyui.translate({"prompt": json.dumps(graph)})
    assert translation is not None
    return translation


def request(graph: dict[str, Any]) -> GenerationRequest:
    return infotext.to_request(infotext.read(told(graph).text), GenerationRequest())[0]


def test_the_usual_graph_becomes_a_request() -> None:
    made = request(usual())
    assert made.prompt == "a \\[red\\] fox, (fur:1.2), soft <lora:ink:0.5:0.8>"
    assert (made.negative_prompt, made.steps, made.cfg_scale, made.seed) == ("blurry", 20, 6.5, 2**40)
    assert (made.width, made.height, made.sampler, made.schedule_type) == (512, 768, "DPM++ 2M", "Karras")
    assert (made.checkpoint, made.rng) == ("v1-5-pruned", "CPU")


def test_its_only_approximation_is_how_words_are_weighed() -> None:
    assert [(note.kind, note.name) for note in told(usual()).notes] == [(APPROXIMATED, "prompt")]


def test_clip_skip_and_two_loras_in_the_order_of_the_graph() -> None:
    graph = usual()
    graph["11"] = node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1])
    graph["12"] = node("LoraLoaderModelOnly", lora_name="b.safetensors", strength_model=1.0, model=["10", 0])
    graph["6"]["inputs"]["clip"] = ["11", 0]
    graph["3"]["inputs"]["model"] = ["12", 0]
    made = request(graph)
    assert made.clip_skip == 2
    assert made.prompt.endswith("<lora:ink:0.5:0.8> <lora:b:0:1>")


def test_combined_and_joined_prompts() -> None:
    graph = usual()
    graph["13"] = node("CLIPTextEncode", text="snow", clip=["4", 1])
    graph["14"] = node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["13", 0])
    graph["3"]["inputs"]["positive"] = ["14", 0]
    assert "soft AND snow" in request(graph).prompt
    graph["14"] = node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["13", 0])
    assert "soft BREAK snow" in request(graph).prompt


def test_values_that_other_nodes_hand_on() -> None:
    graph = usual()
    graph["20"] = node("PrimitiveString", value="a wolf")
    graph["21"] = node("Seed Generator", seed=77)
    graph["6"]["inputs"]["text"] = ["20", 0]
    graph["3"]["inputs"]["seed"] = ["21", 0]
    assert (request(graph).prompt.split(" <")[0], request(graph).seed) == ("a wolf", 77)


def test_the_custom_sampler_with_its_guider() -> None:
    graph = usual()
    graph["3"] = node(
        "SamplerCustomAdvanced", noise=["30", 0], guider=["31", 0], sampler=["32", 0], sigmas=["33", 0], latent_image=["5", 0]
    )
    graph["30"] = node("RandomNoise", noise_seed=5)
    graph["31"] = node("CFGGuider", cfg=4, model=["10", 0], positive=["6", 0], negative=["7", 0])
    graph["32"] = node("KSamplerSelect", sampler_name="euler_ancestral")
    graph["33"] = node("BasicScheduler", scheduler="normal", steps=25, denoise=1, model=["4", 0])
    made = infotext.read(told(graph).text)
    assert [made.params[key] for key in ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed")] == ["25", "Euler a", "Normal", "4", "5"]
    assert made.negative_prompt == "blurry"


def test_of_two_passes_the_first_is_told_and_the_second_named() -> None:
    graph = usual()
    graph["40"] = node("LatentUpscale", samples=["3", 0], width=1024, height=1536)
    graph["41"] = graph["3"] | {"inputs": {**graph["3"]["inputs"], "latent_image": ["40", 0], "denoise": 0.5, "steps": 8}}
    graph["8"]["inputs"]["samples"] = ["41", 0]
    assert (request(graph).steps, request(graph).width) == (20, 512)
    assert "second pass" in [note.name for note in told(graph).notes if note.kind == NOT_UNDERSTOOD]


def test_a_picture_to_start_from_is_told_by_its_strength() -> None:
    graph = usual()
    graph["50"] = node("LoadImage", image="me.png")
    graph["51"] = node("VAEEncode", pixels=["50", 0], vae=["4", 2])
    graph["3"]["inputs"] |= {"latent_image": ["51", 0], "denoise": 0.4}
    assert infotext.read(told(graph).text).params["Denoising strength"] == "0.4"
    assert "image" in [note.name for note in told(graph).notes]


def test_what_lies_on_the_way_and_is_not_known_is_named() -> None:
    graph = usual()
    graph["60"] = node("FreeU_V2", b1=1.3, model=["10", 0])
    graph["61"] = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1)
    graph["3"]["inputs"] |= {"model": ["60", 0], "positive": ["61", 0]}
    translation = told(graph)
    assert {"FreeU_V2", "ControlNetApplyAdvanced"} <= {note.name for note in translation.notes}
    assert "fox" in translation.text


def test_links_in_circles_end() -> None:
    graph = usual()
    graph["10"]["inputs"] |= {"model": ["10", 0], "clip": ["10", 1]}
    graph["5"] = node("LatentFlip", samples=["5", 0])
    assert "fox" in told(graph).text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"1": []}', '{"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}', "[" * 50_000]
)
def test_graphs_without_a_sampler_are_no_recipe(text: str) -> None:
    assert comfyui.translate({"prompt": text}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(sorted(usual())),
    st.sampled_from(["seed", "model", "positive", "text", "clip", "width", "samples", "ckpt_name", "lora_name", "latent_image"]),
    JSON,
)
def test_no_value_makes_it_fail(key: str, name: str, value: Any) -> None:
    graph = usual()
    graph[key]["inputs"][name] = value
    comfyui.translate({"prompt": json.dumps(graph)})
