from dataclasses import fields, replace

import pytest

from webui.core.aesthetic import Aesthetic
from webui.core.errors import BadRequest
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.sampler_options import SamplerOptions
from webui.core.soft_inpainting import SoftInpainting
from webui.ui.fields import FIELDS, NO_AESTHETIC, QUICK, SWITCHES, TABS, collect, spread

SHA = "a" * 64
NOT_SHOWN = {
    "checkpoint_hash",
    "vae_hash",
    "init",
    "image",
    "inpaint",
    "outpaint",
    "mask",
    "soft",
    "upscale",
    "hires",
    "refiner",
    "aesthetic",
}
NOT_SHOWN |= {"guidance", "sampler_options", "template", "negative_template", "each", "text_encoder"}


def shown(tab: str) -> dict[str, object]:
    return {name: FIELDS[name].default for name in (*QUICK, *TABS[tab])}


def test_every_request_field_that_a_person_chooses_has_a_widget() -> None:
    wanted = set()
    parts = (
        ("init.", InitImage),
        ("init.inpaint.", Inpaint),
        ("init.inpaint.soft.", SoftInpainting),
        ("init.outpaint.", Outpaint),
        ("init.upscale.", TiledUpscale),
        ("hires.", HiresFix),
        ("refiner.", Refiner),
        ("aesthetic.", Aesthetic),
        ("guidance.", GuidanceOptions),
        ("sampler_options.", SamplerOptions),
    )
    for prefix, kind in (("", GenerationRequest), *parts):
        wanted |= {prefix + field.name for field in fields(kind) if field.name not in NOT_SHOWN}
    wanted -= {"hires.prediction_type", "refiner.prediction_type"}  # as their cards say
    wanted -= {"init.inpaint.latent_mask"}  # the API's alone, as in A1111
    covered = {path for entry in FIELDS.values() for path in (entry.name, *entry.also)}
    assert covered == wanted | set(SWITCHES)


def test_every_field_is_in_a_tab_or_in_the_top_row() -> None:
    assert {name for names in TABS.values() for name in names} | set(QUICK) == set(FIELDS)


@pytest.mark.parametrize("tab", TABS)
def test_widgets_of_one_tab_have_different_elem_ids(tab: str) -> None:
    elements = [FIELDS[name].element for name in TABS[tab]]
    assert len(elements) == len(set(elements))


def test_what_is_collected_is_shown_again() -> None:
    inpaint = Inpaint(mask=SHA, blur_x=9, blur_y=9, invert=True, content="fill", only_masked=True, padding=40)
    init = InitImage(image=SHA, denoising_strength=0.3, resize_mode="Crop and resize", inpaint=inpaint)
    sampling = {"rng": "NV", "sampler_options": SamplerOptions(eta=0.5, ensd=31337, sgm_noise_multiplier=True)}
    numbers = {"seed": 2**62 + 1, "steps": 7, "width": 640, "height": 448, "cfg_scale": 3.5, "clip_skip": 2}
    guidance = GuidanceOptions(emphasis="Ignore", rescale=0.25, skip_early=0.1, ngms=2.5, ngms_all_steps=True, skip_uncond=True)
    request = GenerationRequest(prompt="a fox", init=init, guidance=guidance, **numbers, **sampling)
    values = spread(request, (*QUICK, *TABS["img2img"]))
    assert collect(values, image=SHA, mask=SHA) == request


def test_outpaint_settings_are_collected_by_side() -> None:
    values = shown("outpaint") | {"init.outpaint.left": 64, "init.outpaint.bottom": 8}
    request = collect(values, image=SHA)
    assert request.init is not None
    assert request.init.outpaint == Outpaint(left=64, bottom=8)


def test_img2img_without_a_mask_does_not_inpaint() -> None:
    request = collect(shown("img2img"), image=SHA)
    assert request.init is not None
    assert request.init.inpaint is None


def test_txt2img_has_no_init_image() -> None:
    assert collect(shown("txt2img")).init is None


def test_defaults_of_the_widgets_are_a_valid_request() -> None:
    values = shown("txt2img") | {"seed": "5", "variation_seed": "6"}
    collect(values).validate()


@pytest.mark.parametrize("text", ["abc", "1.5", "1e400", "nan", "0x10"])
def test_a_seed_that_is_no_whole_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRequest, match="Seed"):
        collect(shown("txt2img") | {"seed": text})


def test_an_emptied_seed_box_means_a_random_seed() -> None:
    assert collect(shown("txt2img") | {"seed": " "}).seed == -1


def test_a_slider_leaves_limits_to_the_request() -> None:
    assert FIELDS["steps"].make("test").preprocess(0) == 0


def test_aesthetic_gradients_are_off_until_an_embedding_is_chosen() -> None:
    assert collect(shown("txt2img") | {"aesthetic.steps": 9}).aesthetic is None
    request = collect(shown("txt2img") | {"aesthetic.embedding": "sky", "aesthetic.steps": 9, "aesthetic.learning_rate": "0.001"})
    assert request.aesthetic == Aesthetic(embedding="sky", steps=9, learning_rate=0.001)
    assert collect(spread(request, (*QUICK, *TABS["txt2img"]))) == request
    assert spread(GenerationRequest(), TABS["txt2img"])["aesthetic.embedding"] == NO_AESTHETIC


def test_hires_fix_is_off_until_it_is_switched_on() -> None:
    assert collect(shown("txt2img") | {"hires.steps": 9}).hires is None
    request = collect(shown("txt2img") | {"hires.enabled": True, "hires.steps": 9, "hires.sampler": "DDIM"})
    assert request.hires == HiresFix(steps=9, sampler="DDIM")
    assert collect(spread(request, (*QUICK, *TABS["txt2img"]))) == request
    assert spread(GenerationRequest(), TABS["txt2img"])["hires.enabled"] is False


def test_what_is_repainted_softly_is_shown_again() -> None:
    soft = SoftInpainting(schedule_bias=2.0, mask_influence=0.5)
    inpaint = Inpaint(mask=SHA, blur_x=20, blur_y=20, soft=soft)
    init = InitImage(image=SHA, noise_multiplier=0.5, extra_noise=0.25, mask_weight=0.75, colour_correction=True, exact_steps=True)
    request = GenerationRequest(width=512, height=512, init=replace(init, inpaint=inpaint))
    request = replace(request, init=replace(request.init, upscale=TiledUpscale(scale=3.0, upscaler="Nearest", overlap=32)))
    values = spread(request, (*QUICK, *TABS["img2img"]))
    assert values["init.inpaint.soft.enabled"] is True
    assert collect(values, image=SHA, mask=SHA) == request
    assert collect(values | {"init.inpaint.soft.enabled": False}, image=SHA, mask=SHA).init.inpaint.soft is None


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_refiner_counts_where_it_is_switched_on(tab: str) -> None:
    told = shown(tab) | {"refiner.checkpoint": "fine.safetensors", "refiner.switch_at": 0.6, "refiner.by_steps": True}
    assert collect(told).refiner is None
    request = collect(told | {"refiner.enabled": True})
    assert request.refiner == Refiner(checkpoint="fine.safetensors", switch_at=0.6, by_steps=True)
    again = spread(request, TABS[tab])
    assert {name: again[name] for name in told if name.startswith("refiner.")} == {
        "refiner.enabled": True,
        "refiner.checkpoint": "fine.safetensors",
        "refiner.switch_at": 0.6,
        "refiner.by_steps": True,
    } | ({"refiner.hires_pass": "second pass"} if tab == "txt2img" else {})
