"""Where parts wait and work: same pictures, same weights afterwards, and only what works is on the device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from tests.lora_files import diffusers_name, write_lora
from tests.tiny import CPU, tiny_checkpoint, tiny_parts
from webui.core.event import Pictures
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest, InitImage
from webui.engine import placement
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks
from webui.engine.patches.lora import LoraUse, read_lora
from webui.engine.placement import FOR_WORK, Placement, fitting, moved, placement_rule

GIB = 1 << 30
CARD = torch.device("cuda", 0)
WAYS = {"by part": Placement(CPU, CPU), "by layer": Placement(CPU, CPU, by_layer=True)}
REQUEST = GenerationRequest(
    prompt="a (red:1.2) circle", width=64, height=64, steps=2, seed=7, variation_seed=0, sampler="Euler", vae="None"
)


class Control:
    interrupted = previews = False

    def take_skip(self) -> bool:
        return False


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    path = tiny_checkpoint(tmp_path_factory.mktemp("placement") / "tiny.safetensors", family="sd1")
    return load_checkpoint(path, torch.float32, CPU)


def placed(model: DiffusionModel, way: Placement | None) -> DiffusionModel:
    return DiffusionModel(model.pipeline, model.family, model.path, placement=way)


def picture(model: DiffusionModel, networks: Networks | None = None, **changes: Any) -> bytes:
    events = generate(
        replace(REQUEST, **changes),
        Control(),
        load=lambda asked: model,
        open_input=lambda name: Image.new("RGB", (64, 64), "red"),
        networks=lambda prompt: networks or Networks(prompt),
    )
    return next(event for event in events if isinstance(event, Pictures)).pictures[0].image.tobytes()


def weights(model: DiffusionModel) -> dict[int, tuple[int, torch.dtype, str]]:
    """Where each weight lies, by its identity."""
    parts = (model.unet, model.vae, *model.text_encoders)
    return {id(weight): (weight.data_ptr(), weight.dtype, str(weight.device)) for part in parts for weight in part.parameters()}


@pytest.mark.parametrize("way", WAYS)
def test_pictures_are_the_same_bit_for_bit_and_weights_lie_where_they_lay(model: DiffusionModel, way: str) -> None:
    jobs: list[dict[str, Any]] = [
        {},
        {"init": InitImage(image="red")},
        {"hires": HiresFix(scale=1.5, upscaler="Lanczos"), "tiling": "Both"},
    ]
    expected, before = [picture(model, **job) for job in jobs], weights(model)
    poor = placed(model, WAYS[way])
    assert [picture(poor, **job) for job in jobs] == expected
    assert weights(model) == before


@pytest.mark.parametrize("way", WAYS)
def test_loras_and_other_vaes_work_wherever_parts_wait(model: DiffusionModel, way: str, tmp_path: Path) -> None:
    write_lora(tmp_path / "some.safetensors", model, diffusers_name)
    called = Networks(REQUEST.prompt, (LoraUse(read_lora(tmp_path / "some.safetensors")),))
    other = tiny_parts("sd1", seed=1, vocabulary=9)["vae"]
    expected = picture(model, called), picture(model.with_vae(other))
    assert len({*expected, picture(model)}) == 3
    poor = placed(model, WAYS[way])
    assert (picture(poor, called), picture(poor.with_vae(other))) == expected


def test_only_the_part_that_works_is_on_the_device(model: DiffusionModel) -> None:
    parts = {"text encoder": model.text_encoder, "UNet": model.unet, "encoder": model.vae.encoder, "decoder": model.vae.decoder}
    homes = {name: next(part.parameters()).data_ptr() for name, part in parts.items()}
    seen: list[tuple[str, ...]] = []

    def note(name: str) -> None:
        away = tuple(other for other, part in parts.items() if next(part.parameters()).data_ptr() != homes[other])
        seen.extend([away] if seen[-1:] != [away] else [])

    hooks = [part.register_forward_pre_hook(lambda part, given, name=name: note(name)) for name, part in parts.items()]
    picture(placed(model, WAYS["by part"]), init=InitImage(image="red"))
    for hook in hooks:
        hook.remove()
    assert seen == [("encoder", "decoder"), ("text encoder",), ("UNet",), ("encoder", "decoder")]


def test_by_layer_the_unet_never_leaves_home_as_a_whole(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[nn.Module] = []
    at_work = Placement.at_work
    monkeypatch.setattr(Placement, "at_work", lambda self, part: whole.append(part) or at_work(self, part))
    lent: list[tuple[nn.Module, torch.device]] = []
    lend = placement.borrowed_weights
    monkeypatch.setattr(placement, "borrowed_weights", lambda part, device: lent.append((part, device)) or lend(part, device=device))
    picture(placed(model, WAYS["by layer"]))
    assert {type(part) for part in whole} == {type(model.text_encoder), type(model.vae)}
    assert lent == [(model.unet, CPU)]


def test_an_error_at_work_leaves_everything_at_home(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **others: Any) -> None:
        raise ValueError("broken")

    before = weights(model)
    monkeypatch.setattr(model.unet.mid_block, "forward", fail)
    for way in WAYS.values():
        with pytest.raises(ValueError, match="broken"):
            picture(placed(model, way))
        assert weights(model) == before


def test_work_is_done_where_the_placement_says(model: DiffusionModel) -> None:
    assert placed(model, Placement(CARD, CPU)).device == CARD
    assert placed(model, Placement(CARD, CPU)).with_vae(model.vae).placement == Placement(CARD, CPU)
    assert model.device == CPU


def test_a_part_that_was_moved_comes_back(model: DiffusionModel) -> None:
    layer = nn.Linear(2, 2)
    weight, numbers = layer.weight, layer.weight.detach().clone()
    with moved(layer, torch.device("cpu")):
        assert layer.weight is weight
    assert torch.equal(layer.weight, numbers)


@pytest.mark.parametrize(
    ("weights", "free", "expected"),
    [
        (2 * GIB, 80 * GIB, None),
        (7 * GIB, 7 * GIB + FOR_WORK, None),
        (7 * GIB, 7 * GIB + FOR_WORK - 1, Placement(CARD, CPU)),
        (7 * GIB, 8 * GIB, Placement(CARD, CPU)),
        (7 * GIB, 4 * GIB, Placement(CARD, CPU, by_layer=True)),
        (7 * GIB, 0, Placement(CARD, CPU, by_layer=True)),
    ],
)
def test_free_memory_chooses_the_fastest_placement_that_fits(weights: int, free: int, expected: Placement | None) -> None:
    assert fitting(CARD, weights, free) == expected


@pytest.fixture
def card_of_4_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 4 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIB)


@pytest.mark.usefixtures("card_of_4_gib")
def test_flags_come_before_free_memory_and_matter_on_cards_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert placement_rule(CARD, False, False)(GIB) is None
    assert placement_rule(CARD, False, False)(2 * GIB + 1) == Placement(CARD, CPU)
    assert placement_rule(CARD, True, False)(GIB) == Placement(CARD, CPU)
    assert placement_rule(CARD, True, True)(GIB) == Placement(CARD, CPU, by_layer=True)
    assert caplog.messages == [f"the card has too little free memory for the whole model: {placement.BY_PART}"]
    assert placement_rule(CPU, True, True)(GIB) is None
    assert caplog.messages[1:] == ["--medvram and --lowvram change nothing here: there is no CUDA card to keep parts away from"]
    assert placement_rule(CPU, False, False)(GIB) is None
    assert len(caplog.messages) == 2
