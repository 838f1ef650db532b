"""ComfyUI's graphs, written by hand as it writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core import infotext
from webui.core.foreign import comfyui
from webui.core.foreign.translation import APPROXIMATED, NOT_UNDERSTOOD, Translation
from webui.core.named_models import NamedModel
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
    return comfyui.translate({"prompt": json.dumps(graph)})


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
    translation = comfyui.translate({"prompt": text})
    assert (translation.text, [note.name for note in translation.notes]) == ("", ["ComfyUI"])


def names(graph: dict[str, Any]) -> set[str]:
    """What the report says beside how words are weighed."""
    return {note.name for note in told(graph).notes} - {"prompt"}


def params(graph: dict[str, Any]) -> dict[str, str]:
    return dict(infotext.read(told(graph).text).params)


def test_a_vae_from_a_file_of_its_own_is_set() -> None:
    graph = usual()
    assert "VAE" not in params(graph)
    graph["20"] = node("VAELoader", vae_name="sub/ft-mse.safetensors")
    graph["8"]["inputs"]["vae"] = ["20", 0]
    assert params(graph)["VAE"] == "ft-mse"


@pytest.mark.parametrize("name", ["ImageUpscaleWithModel", "UltimateSDUpscale", "FaceDetailer"])
def test_nodes_behind_the_sampler_are_named(name: str) -> None:
    graph = usual()
    graph["20"] = node(name, image=["8", 0], model=["4", 0], positive=["6", 0], steps=20, sampler_name="euler")
    graph["21"] = node("PreviewImage", images=["20", 0])
    graph["22"] = node("ImageInvert", image=["8", 0])  # of another branch
    graph["23"] = node("SaveImage", images=["22", 0])
    graph["9"]["inputs"]["images"] = ["20", 0]
    assert names(graph) == {name}
    assert request(graph).steps == 20


def test_a_sampler_that_does_a_part_of_the_way_is_named() -> None:
    graph = usual()
    graph["3"]["class_type"] = "KSamplerAdvanced"
    graph["3"]["inputs"] |= {"add_noise": "enable", "start_at_step": 0, "end_at_step": 10000}
    assert names(graph) == set()
    graph["3"]["inputs"] |= {"add_noise": "disable", "start_at_step": 5, "end_at_step": 12}
    assert names(graph) == {"add_noise", "start_at_step"}


def test_denoise_of_empty_latents_is_named() -> None:
    graph = usual()
    graph["3"]["inputs"]["denoise"] = 0.5
    assert names(graph) == {"denoise"}
    assert "Denoising strength" not in params(graph)


def test_a_lora_counts_on_the_paths_that_pass_it() -> None:
    graph = usual()
    graph["3"]["inputs"]["model"] = ["4", 0]
    assert request(graph).prompt.endswith("soft <lora:ink:0.5:0>")
    graph = usual()
    graph["6"]["inputs"]["clip"] = ["4", 1]
    assert request(graph).prompt.endswith("soft <lora:ink:0:0.8>")


def test_loras_of_a_node_with_rows() -> None:
    graph = usual()
    rows = {"lora_1": {"on": True, "lora": "ink.safetensors", "strength": 0.7}, "lora_2": {"on": False, "lora": "b", "strength": 1}}
    graph["10"] = node("Power Lora Loader (rgthree)", **rows, model=["4", 0], clip=["4", 1])
    assert request(graph).prompt.endswith("soft <lora:ink:0.7>")


def test_rescaled_guidance_is_ours() -> None:
    graph = usual()
    graph["20"] = node("RescaleCFG", multiplier=0.7, model=["10", 0])
    graph["3"]["inputs"]["model"] = ["20", 0]
    assert (params(graph)["CFG Rescale phi"], names(graph)) == ("0.7", set())


def test_texts_that_differ_are_joined_and_named() -> None:
    graph = usual()
    graph["6"] = node("CLIPTextEncodeSDXL", text_g="a fox", text_l="fur", clip=["10", 1])
    assert names(graph) == {"text"}
    assert request(graph).prompt.startswith("a fox, fur <")
    graph["6"] = node("CLIPTextEncodeFlux", clip_l="a fox", t5xxl="a fox", guidance=3.5, clip=["10", 1])
    assert (names(graph), request(graph).prompt) == (set(), "a fox <lora:ink:0.5:0.8>")


def test_the_variant_of_unipc_is_told() -> None:
    graph = usual()
    graph["3"]["inputs"]["sampler_name"] = "uni_pc_bh2"
    made = request(graph)
    assert made.sampler_options is not None
    assert (made.sampler, made.sampler_options.unipc_variant) == ("UniPC", "bh2")


def test_a_size_is_followed_to_where_it_comes_from_or_named() -> None:
    graph = usual()
    graph["5"]["inputs"] |= {"width": ["20", 0], "height": ["21", 1]}
    graph["20"] = node("PrimitiveInt", value=640)
    graph["21"] = node("Sides", a=64, b=448)
    assert (request(graph).width, request(graph).height) == (640, 448)
    graph["21"] = node("Sides", shape="wide")
    assert names(graph) == {"Size"}


def test_embeddings_are_named_for_whoever_looks_whether_they_are_here() -> None:
    graph = usual()
    graph["6"]["inputs"]["text"] = "(embedding:sub/nothere.pt:1.2), fox"
    assert request(graph).prompt.startswith("(nothere:1.2), fox")
    assert told(graph).models == (NamedModel("embedding", "nothere"),)


def test_a_sampler_of_another_author_with_its_loader() -> None:
    graph = {
        "1": node(
            "Efficient Loader",
            ckpt_name="v1-5.safetensors",
            vae_name="Baked VAE",
            clip_skip=-2,
            positive="a cat",
            negative="bad",
            lora_name="ink.safetensors",
            lora_model_strength=0.7,
            lora_clip_strength=0.5,
            empty_latent_width=512,
            empty_latent_height=640,
        ),
        "2": usual()["3"] | {"class_type": "KSampler (Efficient)"},
        "3": node("SaveImage", images=["2", 5]),
    }
    graph["2"]["inputs"] |= {"model": ["1", 0], "positive": ["1", 1], "negative": ["1", 2], "latent_image": ["1", 3]}
    made = request(graph)
    assert (made.prompt, made.negative_prompt, made.clip_skip) == ("a cat <lora:ink:0.5:0.7>", "bad", 2)
    assert (made.width, made.height, made.checkpoint, names(graph)) == (512, 640, "v1-5", set())


def test_texts_of_other_nodes_are_followed() -> None:
    graph = usual()
    graph["6"] = node("ImpactWildcardEncode", wildcard_text="__a__", populated_text="a cat <lora:b:0.5>", model=["10", 0], clip=["10", 1])
    graph["3"]["inputs"] |= {"model": ["6", 0], "positive": ["6", 2]}
    graph["7"]["inputs"]["text"] = ["20", 0]
    graph["20"] = node("StringConcatenate", string_a="one", string_b=["21", 0], delimiter=", ")
    graph["21"] = node("PrimitiveString", value="two")
    made = request(graph)
    assert (made.prompt, made.negative_prompt) == ("a cat <lora:b:0.5> <lora:ink:0.5:0.8>", "one, two")
    assert names(graph) == set()


def test_texts_joined_in_circles_end() -> None:
    graph = usual()
    graph["6"]["inputs"]["text"] = ["20", 0]
    graph["20"] = node("StringConcatenate", string_a=["20", 0], string_b=["20", 0])
    assert request(graph).negative_prompt == "blurry"


def test_the_negative_prompt_does_not_become_the_positive_one_behind_a_node_with_both() -> None:
    graph = usual()
    graph["20"] = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1)
    graph["3"]["inputs"] |= {"positive": ["20", 0], "negative": ["20", 1]}
    assert request(graph).negative_prompt == "blurry"


def test_reroutes_are_followed() -> None:
    graph = usual()
    graph["20"] = node("Reroute", **{"": ["6", 0]})
    graph["21"] = node("Reroute", **{"": ["3", 0]})
    graph["3"]["inputs"]["positive"] = ["20", 0]
    graph["8"]["inputs"]["samples"] = ["21", 0]
    assert ("fox" in request(graph).prompt, names(graph)) == (True, set())


def test_nodes_that_are_one_sampler_or_one_schedule() -> None:
    graph = usual()
    inputs = graph["3"]["inputs"]
    graph["3"] = node("SamplerCustom", sampler=["32", 0], sigmas=["33", 0], noise_seed=5, add_noise=True, cfg=7)
    graph["3"]["inputs"] |= {key: inputs[key] for key in ("model", "positive", "negative", "latent_image")}
    graph["32"] = node("SamplerEulerAncestral", eta=0.8, s_noise=1.0)
    graph["33"] = node("KarrasScheduler", steps=15, sigma_max=14.6, sigma_min=0.03, rho=7)
    made = request(graph)
    options = made.sampler_options
    assert options is not None
    assert (made.sampler, made.schedule_type, made.steps, options.eta) == ("Euler a", "Karras", 15, 0.8)
    assert (options.sigma_max, options.sigma_min, options.rho, names(graph)) == (14.6, 0.03, 7, set())


def workflow() -> dict[str, Any]:
    """The usual graph as the editor saves it, its LoRA bypassed."""

    def each(number: int, kind: str, widgets: list[Any], *inputs: tuple[str, str, int], mode: int = 0) -> dict[str, Any]:
        told = [{"name": name, "type": type, "link": link} for name, type, link in inputs]
        return {"id": number, "type": kind, "mode": mode, "widgets_values": widgets, "inputs": told}

    return {
        "nodes": [
            each(4, "CheckpointLoaderSimple", ["v1-5.safetensors"]),
            each(10, "LoraLoader", ["ink.safetensors", 0.8, 0.5], ("model", "MODEL", 1), ("clip", "CLIP", 2), mode=4),
            each(5, "EmptyLatentImage", [512, 768, 1]),
            each(6, "CLIPTextEncode", ["a fox"], ("clip", "CLIP", 3)),
            each(7, "CLIPTextEncode", ["blurry"], ("clip", "CLIP", 4)),
            each(
                *(3, "KSampler", [42, "fixed", 20, 6.5, "euler", "normal", 1.0], ("model", "MODEL", 5)),
                *(("positive", "CONDITIONING", 6), ("negative", "CONDITIONING", 7), ("latent_image", "LATENT", 8)),
            ),
        ],
        "links": [
            *([1, 4, 0, 10, 0, "MODEL"], [2, 4, 1, 10, 1, "CLIP"], [3, 10, 1, 6, 0, "CLIP"], [4, 10, 1, 7, 0, "CLIP"]),
            *([5, 10, 0, 3, 0, "MODEL"], [6, 6, 0, 3, 1, "CONDITIONING"], [7, 7, 0, 3, 2, "CONDITIONING"], [8, 5, 0, 3, 3, "LATENT"]),
        ],
    }


def test_a_workflow_alone_is_read_and_said_to_be_one() -> None:
    translation = comfyui.translate({"workflow": json.dumps(workflow())})
    made = infotext.to_request(infotext.read(translation.text), GenerationRequest())[0]
    assert (made.prompt, made.negative_prompt, made.seed, made.steps, made.cfg_scale) == ("a fox", "blurry", 42, 20, 6.5)
    assert (made.sampler, made.width, made.height, made.checkpoint) == ("Euler", 512, 768, "v1-5")
    assert [note.name for note in translation.notes] == ["workflow", "prompt"]


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


@given(st.sampled_from(["nodes", "links"]), st.integers(0, 5), st.sampled_from(["id", "type", "inputs", "widgets_values", "mode"]), JSON)
def test_no_value_in_a_workflow_makes_it_fail(part: str, index: int, name: str, value: Any) -> None:
    graph = workflow()
    if part == "nodes":
        graph["nodes"][index][name] = value
    else:
        graph["links"][index] = value
    comfyui.translate({"workflow": json.dumps(graph)})


@pytest.mark.parametrize(
    ("joint", "inputs", "leaf"),
    [
        ("ConditioningCombine", ("conditioning_1", "conditioning_2"), node("CLIPTextEncode", text="fox" * 100_000)),
        ("ConditioningConcat", ("conditioning_to", "conditioning_from"), node("CLIPTextEncode", text="fox" * 100_000)),
        ("StringConcatenate", ("string_a", "string_b"), node("PrimitiveString", value="fox" * 100_000)),
    ],
)
def test_what_is_joined_with_itself_again_and_again_neither_hangs_nor_fills_memory(
    joint: str, inputs: tuple[str, str], leaf: dict[str, Any]
) -> None:
    """Fifty nodes, each fed twice by the next, lead to 2 ** 50 texts."""
    graph = usual()
    for i in range(50):
        graph[f"j{i}"] = node(joint, **{key: [f"j{i + 1}", 0] for key in inputs})
    graph["j50"] = leaf
    if joint == "StringConcatenate":
        graph["6"]["inputs"]["text"] = ["j0", 0]
    else:
        graph["3"]["inputs"]["positive"] = ["j0", 0]
    with at_most(5):
        assert len(told(graph).text) < 20_000_000


def test_many_writers_at_the_end_of_one_long_chain_are_read_at_once() -> None:
    graph = {f"c{i}": node("ImageScale", image=[f"c{i + 1}", 0]) for i in range(2400)}
    graph |= {f"w{i}": node("SaveImage", images=["c0", 0]) for i in range(2400)}
    with at_most(2):
        assert not told(graph).text


def test_a_number_beyond_all_floats_is_left_out() -> None:
    graph = usual()
    graph["3"]["inputs"]["steps"] = 10**400
    assert "Steps" not in infotext.read(told(graph).text).params
