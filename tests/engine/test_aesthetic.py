"""Aesthetic gradients against CLIP as transformers has it: a tiny random one, in a local folder."""

import copy
import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.golden.test_miniature_pictures import Alone
from tests.tiny import tiny_model
from webui.core.aesthetic import Aesthetic
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.core.request import GenerationRequest
from webui.engine import text_encoding
from webui.engine.aesthetic import (
    Guide,
    drawn_states,
    make_guide,
    making_aesthetic_embedding,
    read_aesthetic_embedding,
    read_text_projection,
    slerp,
    tuned_copy,
)
from webui.engine.conditioning import Encoder
from webui.engine.family import load_family
from webui.engine.generate import generate

SPACE = 24  # numbers of the tiny CLIP's common space
SIZE = 28  # pixels of its pictures
SETTINGS = Aesthetic(embedding="sky", learning_rate=0.001, steps=3)


def make_aesthetic_embedding(pictures, clip_folder):
    looking = making_aesthetic_embedding(pictures, clip_folder)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("miniature")


@pytest.fixture(scope="module")
def clip(model: Any) -> CLIPModel:
    """CLIP whose text encoder is the model's."""
    text = model.text_encoder.config.to_dict()
    vision = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": SIZE,
        "patch_size": 7,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=SPACE)).eval().requires_grad_(False)
    clip.text_model.load_state_dict(model.text_encoder.state_dict())
    return clip


@pytest.fixture(scope="module")
def folder(clip: CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    clip.save_pretrained(folder)
    return folder


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    torch.save(7 * torch.randn(1, SPACE, generator=torch.Generator().manual_seed(1)), tmp_path / "sky.pt")
    return tmp_path / "sky.pt"


def ids_of(model: Any, *texts: str) -> Tensor:
    return model.tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt")["input_ids"]


def encode(encoder: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return encoder(input_ids=ids).last_hidden_state


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


def tuned_by_hand(clip: CLIPModel, ids: Tensor, target: Tensor, settings: Aesthetic) -> CLIPModel:
    """The method as its paper has it, on the whole of CLIP."""
    clip = copy.deepcopy(clip).requires_grad_(True)
    adam = torch.optim.Adam(clip.text_model.parameters(), lr=settings.learning_rate)
    for _ in range(settings.steps):
        similarity = unit(clip.get_text_features(ids).pooler_output) @ target.T
        adam.zero_grad()
        (-similarity).mean().backward()
        adam.step()
    return clip


@pytest.mark.parametrize("with_hook", [False, True])
def test_states_are_those_of_clip_tuned_by_hand_mixed_by_weight(model, clip, folder, embedding, with_hook):
    """The hook puts an embedding's vector in place of the second token."""

    def replace_token(layer: Any, ids: Any, embedded: Tensor) -> Tensor:
        return torch.cat([embedded[:, :1], torch.full_like(embedded[:, :1], 0.3), embedded[:, 2:]], dim=1)

    parts = [encoder.get_input_embeddings() for encoder in (model.text_encoder, clip.text_model)]
    handles = [part.register_forward_hook(replace_token) for part in parts if with_hook]
    ids = ids_of(model, "a red circle")
    try:
        states = encode(model.text_encoder, ids)
        target = unit(torch.load(embedding, weights_only=True))
        tuned = encode(tuned_by_hand(clip, ids, target, SETTINGS).text_model, ids)
        made = drawn_states(make_guide(model, SETTINGS, embedding, folder), model.text_encoder, ids, states, encode)
    finally:
        for handle in handles:
            handle.remove()
    assert torch.allclose(made, 0.1 * states + 0.9 * tuned, atol=1e-4)
    assert (made - states).abs().max() > 0.05
    assert torch.equal(states, encode(model.text_encoder, ids)) != with_hook


def test_tuning_brings_the_text_closer_step_by_step(model, folder, embedding):
    ids = ids_of(model, "a red circle")

    def closeness(steps: int) -> float:
        guide = make_guide(model, replace(SETTINGS, steps=steps), embedding, folder)
        tuned = tuned_copy(guide, model.text_encoder, ids)
        return float(unit(tuned(input_ids=ids).pooler_output @ guide.projection.T) @ guide.target.T)

    untuned = closeness(0)
    assert untuned + 0.05 < closeness(2) < closeness(5)


def test_the_models_own_encoder_is_left_as_it_is(model, folder, embedding):
    before = {key: tensor.clone() for key, tensor in model.text_encoder.state_dict().items()}
    ids = ids_of(model, "a red circle")
    states = encode(model.text_encoder, ids)
    drawn_states(make_guide(model, replace(SETTINGS, text="gold"), embedding, folder), model.text_encoder, ids, states, encode)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.text_encoder.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.text_encoder.parameters())
    assert torch.equal(encode(model.text_encoder, ids), states)


def test_it_works_in_inference_mode_and_in_half_precision(model, folder, embedding):
    ids = ids_of(model, "a red circle")
    guide = make_guide(model, SETTINGS, embedding, folder)
    expected = drawn_states(guide, model.text_encoder, ids, encode(model.text_encoder, ids), encode)
    with torch.inference_mode():
        ids = ids_of(model, "a red circle")
        guide = make_guide(model, SETTINGS, embedding, folder)
        assert torch.equal(drawn_states(guide, model.text_encoder, ids, encode(model.text_encoder, ids), encode), expected)
        half = copy.deepcopy(model.text_encoder).bfloat16()
        assert half.final_layer_norm.weight.is_inference()  # as weights that a patch makes on the way
        states = encode(half, ids)
        made = drawn_states(guide, half, ids, states, encode)
    assert made.dtype == states.dtype == torch.bfloat16
    assert torch.allclose(made.float(), expected, atol=0.2)


@pytest.mark.parametrize("change", [{"weight": 0.0}, {"steps": 0}, {"learning_rate": 0.0}])
def test_a_nought_changes_nothing_and_costs_nothing(model, change):
    states = torch.ones(1, 77, 8)
    guide = Guide(replace(SETTINGS, **change), torch.ones(1, SPACE), torch.ones(SPACE, 8))
    assert drawn_states(guide, model.text_encoder, torch.zeros(1, 77), states, encode) is states


def arc(low: Tensor, high: Tensor, share: float) -> Tensor:
    """Slerp of two vectors."""
    angle = math.acos(float(unit(low) @ unit(high)))
    return (math.sin((1 - share) * angle) * low + math.sin(share * angle) * high) / math.sin(angle)


def test_slerp_turns_vectors_and_channels_of_states():
    low, high = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(slerp(low, high, 0.3)[0], arc(low[0], high[0], 0.3), atol=1e-6)
    low, high = torch.randn(2, 2, 7, 5, generator=torch.Generator().manual_seed(0))
    made = slerp(low, high, 0.3)
    for chunk in range(2):
        for channel in range(5):
            assert torch.allclose(made[chunk, :, channel], arc(low[chunk, :, channel], high[chunk, :, channel], 0.3), atol=1e-6)
    assert torch.allclose(slerp(low, low, 0.3), low, atol=1e-6)


def test_slerp_mixes_states_on_arcs(model, folder, embedding):
    ids = ids_of(model, "a red circle")
    states = encode(model.text_encoder, ids)
    guide = make_guide(model, replace(SETTINGS, slerp=True, weight=0.4), embedding, folder)
    tuned = encode(tuned_copy(guide, model.text_encoder, ids), ids)
    made = drawn_states(guide, model.text_encoder, ids, states, encode)
    assert torch.allclose(made[0, :, 3], arc(states[0, :, 3], tuned[0, :, 3], 0.4), atol=1e-4)


@pytest.mark.parametrize("negative", [False, True])
def test_a_text_turns_the_target(model, clip, folder, embedding, negative):
    target = unit(torch.load(embedding, weights_only=True))
    with torch.no_grad():
        text = clip.get_text_features(model.tokenizer(["gold"], return_tensors="pt")["input_ids"]).pooler_output
    other = unit(target - text) if negative else text
    guide = make_guide(model, replace(SETTINGS, text="gold", text_negative=negative, slerp_angle=0.25), embedding, folder)
    assert torch.allclose(guide.target[0], arc(target[0], other[0], 0.25), atol=1e-4)


def test_a_text_of_any_length_is_taken(model, folder, embedding):
    make_guide(model, replace(SETTINGS, text="gold " * 500), embedding, folder)


def test_what_does_not_belong_together_is_refused(model, folder, embedding, tmp_path):
    torch.save(torch.ones(1, 5), tmp_path / "other.pt")
    with pytest.raises(BadRequest, match=r"other\.pt has 5 numbers, the CLIP in .* 24"):
        make_guide(model, SETTINGS, tmp_path / "other.pt", folder)
    save_file({"text_projection.weight": torch.ones(SPACE, 9)}, tmp_path / "model.safetensors")
    with pytest.raises(BadRequest, match=r"has text states of width 9, .* need the CLIP that the checkpoint was trained with"):
        make_guide(model, SETTINGS, embedding, tmp_path)
    with pytest.raises(BadRequest, match=r"cannot be used with Stable Diffusion 2\.x"):
        make_guide(SimpleNamespace(family=load_family("sd2")), SETTINGS, embedding, folder)


def test_without_clip_the_error_says_what_to_put_where(model, embedding, tmp_path):
    place = tmp_path / "CLIP"
    for call in (lambda: make_guide(model, SETTINGS, embedding, place), lambda: make_aesthetic_embedding([], place)):
        with pytest.raises(
            MissingModel, match=rf"put config\.json and model\.safetensors of openai/clip-vit-large-patch14 .* into {place}"
        ):
            call()
    place.mkdir()
    with pytest.raises(MissingModel, match=r"CLIP is not there: .*put config.json and model.safetensors"):
        make_guide(model, SETTINGS, embedding, place)
    save_file({"visual_projection.weight": torch.ones(2, 2)}, place / "model.safetensors")
    with pytest.raises(BadModelFile, match=r"no text_projection\.weight; .* put config\.json"):
        make_guide(model, SETTINGS, embedding, place)


def test_clip_may_lie_in_a_bin_file(clip, tmp_path):
    torch.save(clip.state_dict(), tmp_path / "pytorch_model.bin")
    assert torch.equal(read_text_projection(tmp_path), clip.text_projection.weight)


EMBEDDING = torch.randn(SPACE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("content", [EMBEDDING[None], EMBEDDING, EMBEDDING[None].clone().requires_grad_(True), {"any": EMBEDDING[None]}])
def test_embeddings_of_every_form_are_read(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    assert torch.equal(read_aesthetic_embedding(tmp_path / "x.pt"), EMBEDDING[None])


def test_embeddings_in_half_precision_and_safetensors_are_read(tmp_path):
    torch.save(EMBEDDING[None].half(), tmp_path / "x.pt")
    save_file({"embedding": EMBEDDING[None].half()}, tmp_path / "x.safetensors")
    for name in ("x.pt", "x.safetensors"):
        assert torch.equal(read_aesthetic_embedding(tmp_path / name), EMBEDDING[None].half().float())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.ones(2, 768), "should hold one tensor"),
        (torch.tensor(1.0), "should hold one tensor"),
        (torch.ones(1, 1, 768), "should hold one tensor"),
        ({"a": torch.ones(1, 4), "b": torch.ones(1, 4)}, "should hold one tensor"),
        ({}, "should hold one tensor"),
        ("text", "should hold one tensor"),
        (torch.zeros(1, 4), "no direction"),
        (torch.full((1, 4), math.nan), "no direction"),
        (torch.full((1, 4), math.inf), "no direction"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, reason):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadModelFile, match=rf"x\.pt .*{reason}"):
        read_aesthetic_embedding(tmp_path / "x.pt")


def picture(width: int, height: int, seed: int) -> Image.Image:
    noise = torch.randint(0, 256, (height // 8 + 1, width // 8 + 1, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(noise.numpy()).resize((width, height), Image.Resampling.BICUBIC)


def test_an_embedding_of_pictures_is_the_mean_of_clips_answers(clip, folder):
    pictures = [picture(60, 60, 0), picture(97, 61, 1), picture(40, 130, 2), picture(20, 21, 3), picture(56, 56, 4).convert("L")]
    pictures += [picture(28 + i, 28, i) for i in range(5)]  # more than one batch in all
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SIZE)
    with torch.no_grad():
        expected = torch.cat(
            [clip.get_image_features(processor(image, return_tensors="pt")["pixel_values"]).pooler_output for image in pictures]
        )
    made = make_aesthetic_embedding(iter(pictures), folder)
    assert made.shape == (1, SPACE)
    assert torch.allclose(made, expected.mean(0, keepdim=True), atol=2e-3 * float(expected.abs().max()))


TOWER_CONFIGS: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "not valid JSON"),
    "a list": ([], "not a configuration"),
    "no tower": ({"vision_config": 3}, "not a configuration of CLIP"),
    "heads that do not fit": ({"vision_config": {"num_attention_heads": 5}}, "image tower"),
    "no heads": ({"vision_config": {"num_attention_heads": 0}}, "image tower"),
    "heads in words": ({"vision_config": {"num_attention_heads": "three"}}, "image tower"),
    "another epsilon": ({"vision_config": {"layer_norm_eps": {}}}, "image tower"),
}


@pytest.mark.parametrize("name", TOWER_CONFIGS)
def test_folders_with_damaged_configurations_are_refused(folder, tmp_path, name):
    content, reason = TOWER_CONFIGS[name]
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(BadModelFile, match=reason):
        make_aesthetic_embedding([picture(30, 30, 0)], tmp_path)


@pytest.mark.parametrize("left_out", ["vision_model.", "visual_projection.", "vision_model.encoder.layers.0.", "vision_model.embeddings."])
def test_folders_without_the_whole_image_tower_are_refused(clip, folder, tmp_path, left_out):
    shutil.copy(folder / "config.json", tmp_path)
    tensors = {key: tensor for key, tensor in clip.state_dict().items() if not key.startswith(left_out)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BadModelFile, match="image tower"):
        make_aesthetic_embedding([picture(30, 30, 0)], tmp_path)


def test_a_very_long_picture_takes_no_more_memory_than_a_short_one(folder, monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *a, **k: sizes.append(size) or resize(self, size, *a, **k))
    make_aesthetic_embedding([Image.new("RGB", (1, 5000))], folder)
    assert sizes == [(SIZE, SIZE)]


def test_no_pictures_make_no_embedding(folder):
    with pytest.raises(BadRequest, match="no pictures"):
        make_aesthetic_embedding([], folder)


def test_a_job_draws_its_prompt_and_not_its_negative_prompt_and_leaves_the_model_alone(model, folder, embedding, monkeypatch):
    before = {name: weight.clone() for name, weight in model.text_encoder.state_dict().items()}
    request = GenerationRequest(prompt="a (red:1.3) fox", negative_prompt="a dog", width=64, height=64, steps=1, seed=1, variation_seed=1)
    seen: dict[str, Tensor] = {}

    def kept(name: str, encode: Any) -> Any:
        def encoded(*arguments: Any) -> Any:
            result = encode(*arguments)
            seen[name] = (result if name == "negative_prompt" else result[0]).at(0).states
            return result

        return encoded

    for name in ("prompt", "negative_prompt"):
        monkeypatch.setattr(Encoder, name, kept(name, getattr(Encoder, name)))

    def states(aesthetic: Aesthetic | None) -> dict[str, Tensor]:
        job = replace(request, aesthetic=aesthetic)
        guide = partial(make_guide, embedding=embedding, clip_folder=folder)
        for _ in generate(job, Alone(), load=lambda _: model, open_input={}.__getitem__, guide=guide):
            pass
        return dict(seen)

    plain, drawn, again, off = (states(each) for each in (None, SETTINGS, SETTINGS, replace(SETTINGS, steps=0)))
    encoded = text_encoding.encode_prompt(model, request.prompt, 1).states[None]
    ids = ids_of(model, "a red fox")
    by_hand = drawn_states(make_guide(model, SETTINGS, embedding, folder), model.text_encoder, ids, encoded, encode)[0]
    torch.testing.assert_close(drawn["prompt"], by_hand)
    assert not torch.allclose(drawn["prompt"], plain["prompt"], atol=1e-4)
    assert torch.equal(drawn["prompt"], again["prompt"])
    assert torch.equal(off["prompt"], plain["prompt"])
    assert torch.equal(drawn["negative_prompt"], plain["negative_prompt"])
    assert all(torch.equal(weight, before[name]) for name, weight in model.text_encoder.state_dict().items())


def test_without_files_a_request_for_it_is_refused(model):
    request = GenerationRequest(prompt="x", width=64, height=64, steps=1, seed=1, variation_seed=1, aesthetic=SETTINGS)
    with pytest.raises(MissingModel, match="sky"):
        list(generate(request, Alone(), load=lambda _: model, open_input={}.__getitem__))
