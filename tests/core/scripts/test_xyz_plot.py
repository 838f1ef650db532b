from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint
from webui.core.sampler_options import SamplerOptions
from webui.core.scripts.axes import AXES, FIELD_ORDER, offered, wire_labels
from webui.core.scripts.plan import Plan, making_order
from webui.core.scripts.table import find_script

BASE = GenerationRequest(
    prompt="a red cat, a blue dog",
    negative_prompt="red",
    seed=10,
    variation_seed=3,
    width=64,
    height=64,
    hires=HiresFix(),
    guidance=GuidanceOptions(),
    sampler_options=SamplerOptions(),
)
PICTURE = replace(BASE, hires=None, init=InitImage(image="0" * 64, inpaint=Inpaint(mask="1" * 64)))


def plot(base: GenerationRequest = BASE, **arguments: Any) -> Plan:
    drawn = iter(range(1000, 2000))
    given = {"x_type": "Nothing", "y_type": "Nothing", "z_type": "Nothing"} | arguments
    return find_script("x/y/z PLOT").plan(base, given, lambda: next(drawn))


def requests(plan: Plan) -> list[GenerationRequest]:
    return [step.request for step in plan.steps]


def test_cells_go_along_x_then_y_then_z() -> None:
    plan = plot(x_type="Steps", x_values="5,6", y_type="CFG Scale", y_values="1-3", z_type="Sampler", z_values="Euler,Heun")
    made = [(request.steps, request.cfg_scale, request.sampler) for request in requests(plan)]
    assert made == [(steps, cfg, sampler) for sampler in ("Euler", "Heun") for cfg in (1, 2, 3) for steps in (5, 6)]
    assert plan.sheet is not None
    assert [label[0].text for label in plan.sheet.columns] == ["Steps: 5", "Steps: 6"]
    assert [label[0].text for label in plan.sheet.rows] == ["CFG Scale: 1.0", "CFG Scale: 2.0", "CFG Scale: 3.0"]
    assert [label[0].text for label in plan.sheet.planes] == ["Euler", "Heun"]


def test_nothing_on_all_axes_is_one_picture() -> None:
    assert requests(plot()) == [BASE]


@pytest.mark.parametrize(
    ("label", "typed", "fields"),
    [
        ("Seed", "4, 5", [{"seed": 4}, {"seed": 5}]),
        ("Var. seed", "4-5", [{"variation_seed": 4}, {"variation_seed": 5}]),
        ("Var. strength", "0.5", [{"variation_strength": 0.5}]),
        ("Schedule type", "Karras", [{"schedule_type": "Karras"}]),
        ("Checkpoint name", "a.ckpt", [{"checkpoint": "a.ckpt", "checkpoint_hash": ""}]),
        ("VAE", "b.pt", [{"vae": "b.pt", "vae_hash": ""}]),
        ("Clip skip", "2", [{"clip_skip": 2}]),
        ("Size", "128x256", [{"width": 128, "height": 256}]),
        ("Prediction type", "epsilon", [{"prediction_type": "epsilon"}]),
        ("RNG source", "NV", [{"rng": "NV"}]),
        ("Seamless tiling", "Both", [{"tiling": "Both"}]),
        ("Styles", "ink", [{"styles": ("ink",)}]),
        ("Hires steps", "3, 4", [{"hires": HiresFix(steps=3)}, {"hires": HiresFix(steps=4)}]),
        ("Denoising", "0.3", [{"hires": HiresFix(denoising_strength=0.3)}]),
        ("Hires upscaler", "Lanczos", [{"hires": HiresFix(upscaler="Lanczos")}]),
        ("Hires schedule type", "Karras", [{"hires": HiresFix(schedule_type="Karras")}]),
        ("Hires CFG Scale", "3", [{"hires": HiresFix(cfg_scale=3.0)}]),
        ("Hires checkpoint", "a.ckpt", [{"hires": HiresFix(checkpoint="a.ckpt")}]),
        ("Refiner checkpoint", "fine, None", [{"refiner": Refiner(checkpoint="fine")}, {"refiner": Refiner(checkpoint="None")}]),
        ("Refiner switch at", "0.5", [{"refiner": Refiner(checkpoint="", switch_at=0.5)}]),
        ("Negative Guidance minimum sigma", "1.5", [{"guidance": GuidanceOptions(ngms=1.5)}]),
        ("Eta", "0.5", [{"sampler_options": SamplerOptions(eta=0.5, eta_ddim=0.5)}]),
        ("Sigma Churn", "2", [{"sampler_options": SamplerOptions(s_churn=2.0)}]),
        ("SGM noise multiplier", "True", [{"sampler_options": SamplerOptions(sgm_noise_multiplier=True)}]),
        ("Prompt S/R", "red, green", [{}, {"prompt": "a green cat, a blue dog", "negative_prompt": "green"}]),
        ("Prompt order", "red,blue", [{}, {"prompt": "a blue cat, a red dog"}]),
    ],
)
def test_an_axis_changes_its_fields_and_no_others(label: str, typed: str, fields: list[dict[str, Any]]) -> None:
    assert requests(plot(x_type=label, x_values=typed)) == [replace(BASE, **changes) for changes in fields]


def test_axes_of_img2img_change_the_init_image() -> None:
    assert PICTURE.init is not None
    (made,) = requests(plot(PICTURE, x_type="Denoising", x_values="0.3"))
    assert made.init == replace(PICTURE.init, denoising_strength=0.3)
    (made,) = requests(plot(PICTURE, x_type="Mask blur", x_values="9"))
    assert made.init is not None
    assert made.init.inpaint is not None
    assert (made.init.inpaint.blur_x, made.init.inpaint.blur_y) == (9, 9)


def test_prompt_order_takes_all_orders() -> None:
    base = replace(BASE, prompt="one two three")
    made = [request.prompt for request in requests(plot(base, x_type="Prompt order", x_values="three,one,two"))]
    assert sorted(made) == sorted({"one two three", "one three two", "two one three", "two three one", "three one two", "three two one"})


def test_chosen_values_count_before_typed_ones_unless_text_is_wanted() -> None:
    told = {"x_type": "Sampler", "x_values": "Euler", "x_values_dropdown": ["Heun", "LMS"]}
    assert [request.sampler for request in requests(plot(**told))] == ["Heun", "LMS"]
    assert [request.sampler for request in requests(plot(**told, csv_mode=True))] == ["Euler"]


def test_an_open_seed_is_drawn_once_for_all_cells() -> None:
    base = replace(BASE, seed=-1, variation_seed=-1)
    assert {request.seed for request in requests(plot(base, x_type="Steps", x_values="1-3"))} == {1000}
    assert {request.seed for request in requests(plot(base, x_type="Steps", x_values="1-3", no_fixed_seeds=True))} == {-1}


def test_random_seeds_on_an_axis_are_drawn_and_told() -> None:
    plan = plot(x_type="Seed", x_values="-1, 7, -1")
    assert [request.seed for request in requests(plan)] == [1000, 7, 1001]
    assert plan.sheet is not None
    facts = dict(plan.sheet.facts)
    assert (facts["X Type"], facts["X Values"], facts["Fixed X Values"]) == ("Seed", "-1, 7, -1", "1000, 7, 1001")


def test_seeds_vary_along_the_axes_that_are_named() -> None:
    told = {"x_type": "Steps", "x_values": "1-2", "y_type": "CFG Scale", "y_values": "1-3", "z_type": "Clip skip", "z_values": "1-2"}
    seeds = [request.seed for request in requests(plot(**told, vary_seeds_x=True, vary_seeds_z=True))]
    assert seeds == [10, 11] * 3 + [12, 13] * 3


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"x_type": "Steps"}, "X values"),
        ({"x_type": "Steps", "x_values": "ten"}, "Steps.*whole number"),
        ({"x_type": "Prompt S/R", "x_values": "green, blue"}, "did not find 'green'"),
        ({"x_type": "Prompt order", "x_values": "red, green"}, "did not find 'green'"),
        ({"x_type": "Prompt order", "x_values": "a,b,c,d,e,f,g,h"}, "orders"),
        ({"x_type": "Steps", "x_values": "1-40", "y_type": "Seed", "y_values": "1-40"}, "1600 cells"),
        ({"x_type": "Initial noise multiplier", "x_values": "0.5"}, "not offered in txt2img"),
        ({"x_type": "FP8 mode", "x_values": "x"}, "not offered"),
        ({"x_type": "Aesthetic weight", "x_values": "0.5"}, "does not have"),
        ({"margin_size": -1}, "Grid margins"),
    ],
)
def test_what_cannot_be_plotted_is_told(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        plot(**told)


def test_each_checkpoint_and_vae_is_loaded_once() -> None:
    plan = plot(
        x_type="Checkpoint name", x_values="b,a,c,a", y_type="VAE", y_values="v,w", z_type="Steps", z_values="1-3", include_sub_grids=True
    )
    order = making_order(requests(plan))
    assert sorted(order) == list(range(24))
    loaded = [(requests(plan)[i].checkpoint, requests(plan)[i].vae) for i in order]
    switches = sum(before != after for before, after in pairwise(loaded))
    assert switches == 3 * 2 - 1
    assert [pair for i, pair in enumerate(loaded) if i == 0 or pair[0] != loaded[i - 1][0]] == [("b", "v"), ("a", "v"), ("c", "v")]


def test_pictures_with_the_same_checkpoint_of_hires_fix_follow_one_another() -> None:
    plan = plot(x_type="Hires checkpoint", x_values="b,a", y_type="Steps", y_values="1-3")
    made = [requests(plan)[i].hires for i in making_order(requests(plan))]
    assert [hires.checkpoint for hires in made if hires] == ["b"] * 3 + ["a"] * 3


@pytest.mark.parametrize("order", ["xy", "yx"])
def test_the_two_axes_of_the_refiner_go_together_in_any_order(order: str) -> None:
    first, second = order
    told = {
        f"{first}_type": "Refiner checkpoint",
        f"{first}_values": "fine",
        f"{second}_type": "Refiner switch at",
        f"{second}_values": "0.4",
    }
    (made,) = requests(plot(**told))
    assert made.refiner == Refiner(checkpoint="fine", switch_at=0.4)


def test_pictures_with_the_same_refiner_are_made_one_after_the_other() -> None:
    plan = plot(x_type="Refiner checkpoint", x_values="r,s", y_type="Steps", y_values="1-3")
    made = [requests(plan)[i].refiner for i in making_order(requests(plan))]
    assert [refiner.checkpoint for refiner in made if refiner] == ["r"] * 3 + ["s"] * 3


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_axes_are_counted_as_the_field_counts(tab: str) -> None:
    labels = wire_labels(tab)
    assert labels[:5] == ("Nothing", "Seed", "Var. seed", "Var. strength", "Steps")
    assert labels.index("Sampler") == 9
    assert set(offered(tab)) <= set(labels)
    theirs = {label for label, _ in FIELD_ORDER}
    assert labels[-1] not in theirs
    assert set(AXES) >= {"Steps", "CFG Scale", "Prompt S/R", "Checkpoint name"}


def test_an_axis_may_be_named_by_its_number() -> None:
    assert requests(plot(x_type=4, x_values="9"))[0].steps == 9
