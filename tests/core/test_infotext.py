"""Infotext: what is written is read back; what others wrote is understood; nothing makes it fail or slow."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.aesthetic import Aesthetic
from webui.core.choices import MASKED_CONTENT, OUTPAINT_WAYS, PIXEL_UPSCALERS, RESIZE_MODES, SAMPLERS, SCHEDULE_TYPES, TILINGS, UPSCALERS
from webui.core.family import PREDICTION_TYPES
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.infotext import Facts, read, to_request, write
from webui.core.prompt import EMPHASIS
from webui.core.refiner import HIRES_PASSES, Refiner
from webui.core.request import MAX_SEED, GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.sampler_options import NOISE_SOURCES, OPTIONS, SamplerOptions
from webui.core.soft_inpainting import NUMBERS, SoftInpainting

TRICKS = [
    "Negative prompt:",
    "\nNegative prompt: x",
    "Steps: 20, Seed: 1, Size: 8x8",
    "\nSteps: 20, Sampler: Euler, Seed: 3",
    "Version: Easel 0.1.0",
    "Prompt lines: 1",
    '"',
    "\\",
    "\r\n",
    "\r",
    "\n",
    ",",
    ":",
    "(blue:1.2)",
    "[a|b]",
    "<lora:x:1>",
    "\u2028",
    "\x00",
    "你好",
    "🎨",
]
# Every text but lone surrogates, which cannot be written to any file.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(st.sampled_from(TRICKS) | st.text(max_size=8, alphabet="ab \n:,"), max_size=8).map("".join),
)
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
SHORT_HASHES = st.text("0123456789abcdef", min_size=10, max_size=10)
FILES = st.one_of(
    st.sampled_from(
        ["a.safetensors", "sub/b.ckpt", "512x768.safetensors", "no ending", 'q"u,o:te.safetensors', "x.SAFETENSORS", "[1].ckpt"]
    ),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
)
SIDES = st.integers(8, 512).map(lambda n: n * 8)
SEEDS = st.integers(0, MAX_SEED)
SOFTS = st.builds(SoftInpainting, **{name: st.floats(least, most) for name, (_, least, most) in NUMBERS.items()})
INPAINTS = st.builds(
    Inpaint,
    mask=HASHES,
    blur_x=st.integers(0, 64),
    blur_y=st.integers(0, 64),
    invert=st.booleans(),
    content=st.sampled_from(MASKED_CONTENT),
    only_masked=st.booleans(),
    padding=st.integers(0, 256),
    greys=st.booleans(),
    soft=st.none() | SOFTS,
    latent_mask=st.just("") | HASHES,
)
PIXELS = st.integers(0, 512).map(lambda n: n * 8)
FRACTIONS = st.floats(0, 1)
OUTPAINTS = st.builds(
    Outpaint,
    left=PIXELS,
    right=PIXELS,
    top=PIXELS,
    bottom=st.just(8),
    blur=st.integers(0, 64),
    way=st.sampled_from(OUTPAINT_WAYS),
    falloff=st.floats(0, 4),
    colour_variation=FRACTIONS,
    content=st.sampled_from(MASKED_CONTENT),
    tile_width=PIXELS,
    tile_height=PIXELS,
)
UPSCALES = st.builds(TiledUpscale, scale=st.floats(1, 8), upscaler=st.sampled_from(PIXEL_UPSCALERS), overlap=st.integers(0, 512))
INITS = st.builds(
    lambda inpaint, outpaint, upscale, **rest: InitImage(
        inpaint=inpaint, outpaint=None if inpaint else outpaint, upscale=None if inpaint or outpaint else upscale, **rest
    ),
    image=HASHES,
    denoising_strength=FRACTIONS,
    resize_mode=st.sampled_from(RESIZE_MODES),
    noise_multiplier=st.floats(0, 2),
    extra_noise=FRACTIONS,
    mask_weight=FRACTIONS,
    colour_correction=st.booleans(),
    exact_steps=st.booleans(),
    inpaint=st.none() | INPAINTS,
    outpaint=st.none() | OUTPAINTS,
    upscale=st.none() | UPSCALES,
)
HIRES_SIZES = st.tuples(st.floats(1, 4), st.just((0, 0))) | st.tuples(
    st.just(2.0), st.tuples(st.integers(0, 4096), st.integers(0, 4096)).filter(any)
)
NAMES_OF_CHECKPOINTS = st.just(("", "")) | st.tuples(FILES.filter(lambda name: not name.startswith("Use same")), st.just("") | SHORT_HASHES)
HIRES = st.builds(
    lambda size, checkpoint, **rest: HiresFix(
        scale=size[0], width=size[1][0], height=size[1][1], checkpoint=checkpoint[0], checkpoint_hash=checkpoint[1], **rest
    ),
    size=HIRES_SIZES,
    checkpoint=NAMES_OF_CHECKPOINTS,
    prediction_type=st.sampled_from(["", *PREDICTION_TYPES]),
    denoising_strength=FRACTIONS,
    upscaler=st.sampled_from((*UPSCALERS, "4x-UltraSharp", "RealESRGAN/x4, plus: two")),
    steps=st.integers(0, 1000),
    sampler=st.just("") | st.sampled_from(list(SAMPLERS)),
    schedule_type=st.just("") | st.sampled_from(list(SCHEDULE_TYPES)),
    cfg_scale=st.floats(0, 100),
    prompt=TEXTS,
    negative_prompt=TEXTS,
    template=TEXTS,
    negative_template=TEXTS,
    extra_noise=FRACTIONS,
    image=st.just("") | HASHES,
)
REFINERS = st.builds(
    lambda checkpoint, **rest: Refiner(checkpoint=checkpoint[0], checkpoint_hash=checkpoint[1], **rest),
    checkpoint=NAMES_OF_CHECKPOINTS.filter(lambda named: named[0]),
    prediction_type=st.sampled_from(["", *PREDICTION_TYPES]),
    switch_at=FRACTIONS,
    by_steps=st.booleans(),
    hires_pass=st.sampled_from(HIRES_PASSES),
)
AESTHETICS = st.builds(
    Aesthetic,
    embedding=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20).filter(lambda name: name != "None"),
    weight=st.floats(0, 1),
    steps=st.integers(0, 100),
    learning_rate=st.floats(0, 1),
    slerp=st.booleans(),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    text_negative=st.booleans(),
    slerp_angle=st.floats(0, 1),
)
SAMPLER_OPTIONS = st.builds(
    SamplerOptions,
    **{
        option.field: st.sampled_from((True, False) if isinstance(option.default, bool) else option.choices)
        if isinstance(option.default, (bool, str))
        else st.just(option.default)
        | (st.integers(int(option.least), int(option.most)) if isinstance(option.default, int) else st.floats(option.least, option.most))
        for option in OPTIONS
    },
)
GUIDANCES = st.builds(
    GuidanceOptions,
    emphasis=st.sampled_from(EMPHASIS),
    rescale=FRACTIONS,
    skip_early=FRACTIONS,
    ngms=st.floats(0, 15),
    ngms_all_steps=st.booleans(),
    skip_uncond=st.booleans(),
    pad_conds=st.booleans(),
    pad_conds_v0=st.booleans(),
    old_timelines=st.booleans(),
)
REQUESTS = st.builds(
    # a variation seed of strength 0 changes nothing and is not written
    lambda variation, init, hires, tile, **rest: GenerationRequest(
        variation_seed=variation[0],
        variation_strength=variation[1],
        init=init,
        hires=None if init else hires,
        tile=tile[0],
        tile_overlap=tile[1],
        **rest,
    ),
    variation=st.just((-1, 0.0)) | st.tuples(SEEDS, st.floats(0, 1, exclude_min=True)),
    prompt=TEXTS,
    negative_prompt=TEXTS,
    checkpoint=FILES,
    checkpoint_hash=SHORT_HASHES,
    vae=st.sampled_from(["Automatic", "None"]) | FILES,
    vae_hash=st.just("") | SHORT_HASHES,
    text_encoder=st.just("") | FILES | st.just("clip_l.safetensors, XL/clip_g: 512x768.safetensors"),
    clip_skip=st.integers(1, 12),
    prediction_type=st.sampled_from(["", *PREDICTION_TYPES]),
    width=SIDES,
    height=SIDES,
    steps=st.integers(1, 1000),
    sampler=st.sampled_from(list(SAMPLERS)),
    schedule_type=st.sampled_from(list(SCHEDULE_TYPES)),
    cfg_scale=st.floats(0, 100),
    seed=SEEDS,
    seed_resize_width=PIXELS,
    seed_resize_height=PIXELS,
    batch_size=st.integers(1, 64),
    batch_count=st.integers(1, 1000),
    rng=st.sampled_from(NOISE_SOURCES),
    sampler_options=SAMPLER_OPTIONS,
    tiling=st.sampled_from(TILINGS),
    tile=st.just((0, 64)) | st.tuples(SIDES, st.integers(0, 4096)),
    init=st.none() | INITS,
    hires=st.none() | HIRES,
    refiner=st.none() | REFINERS,
    aesthetic=st.none() | AESTHETICS,
    guidance=GUIDANCES,
)


@settings(max_examples=2000, deadline=None)
@given(REQUESTS)
def test_what_is_written_is_read_back_whole(request):
    back, problems = to_request(read(write(request)), GenerationRequest())
    assert back == request
    assert problems == []


@settings(max_examples=100, deadline=None)
@given(REQUESTS, REQUESTS)
def test_a_text_of_easel_replaces_every_field_of_the_base(request, base):
    back, _ = to_request(read(write(request)), replace(base, init=None))
    assert back == request


@settings(max_examples=2000, deadline=None)
@given(TEXTS, TEXTS)
@example("", '"quoted"')
@example("", "[1, 2]")
@example("", "{")
@example("", "")
@example("", " edges ")
def test_each_value_survives_as_an_extra_fact(prompt, value):
    text = write(GenerationRequest(prompt=prompt), Facts(extra={"Aesthetic text": value, "After": "1"}))
    assert read(text).params["Aesthetic text"] == value
    assert read(text).params["After"] == "1"


def test_the_text_has_the_form_that_everybody_reads():
    request = GenerationRequest(
        prompt="a fox,\nred", negative_prompt="blue", checkpoint="v1-5.safetensors", checkpoint_hash="0123456789", vae="None", width=512
    )
    request = replace(request, height=768, seed=1, schedule_type="Karras", clip_skip=2, variation_seed=5, variation_strength=0.25)
    assert write(request, Facts(version="Easel 9")) == (
        "a fox,\nred\nNegative prompt: blue\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model hash: 0123456789, Model: v1-5, "
        "Variation seed: 5, Variation seed strength: 0.25, Clip skip: 2, RNG: CPU, Version: Easel 9"
    )


A1111 = (
    "masterpiece, (blue eyes:1.2)\nsecond line\nNegative prompt: bad, worse\nmore bad\n"
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 42, Size: 640x384, Model hash: 6ce0161689, "
    'Model: v1-5-pruned, VAE hash: 735e4c3a44, VAE: vae-ft-mse.safetensors, Clip skip: 2, Lora hashes: "a: 0123, b: 4567", Version: v1.10.1'
)


def test_a_text_of_a1111_becomes_a_request():
    request, problems = to_request(read(A1111), GenerationRequest())
    assert (request.prompt, request.negative_prompt) == ("masterpiece, (blue eyes:1.2)\nsecond line", "bad, worse\nmore bad")
    assert (request.steps, request.sampler, request.schedule_type, request.cfg_scale) == (25, "DPM++ 2M", "Karras", 5.5)
    assert (request.seed, request.width, request.height, request.clip_skip) == (42, 640, 384, 2)
    assert (request.checkpoint, request.checkpoint_hash) == ("v1-5-pruned [6ce0161689]", "6ce0161689")
    assert (request.vae, request.vae_hash) == ("vae-ft-mse.safetensors", "735e4c3a44")
    assert problems == []


def test_the_init_image_stands_before_the_noise_source_as_with_everybody():
    keys = list(read(write(GenerationRequest(seed=1, init=InitImage(image="a" * 64, inpaint=Inpaint(mask="b" * 64))))).params)
    assert keys[keys.index("Init image hash") + 1] == "RNG"


def test_the_noise_source_stands_in_the_text_only_where_it_is_not_the_usual_one():
    request = GenerationRequest(prompt="x", seed=1, rng="GPU")
    assert "RNG" not in write(request)
    assert to_request(read(write(request)), GenerationRequest(rng="CPU"))[0].rng == "GPU"
    seedless = read(write(request))
    del seedless.params["Seed"]  # as the API does where the client sends a seed of its own
    assert to_request(seedless, GenerationRequest(rng="CPU"))[0].rng == "GPU"


def test_the_numbers_of_soft_inpainting_have_one_form():
    texts = []
    for one in (1, 1.0):
        soft = SoftInpainting(schedule_bias=one, preservation_strength=0.5)
        texts.append(write(GenerationRequest(seed=1, init=InitImage(image="a" * 64, inpaint=Inpaint(mask="b" * 64, soft=soft)))))
    assert texts[0] == texts[1]
    assert "Soft inpainting schedule bias: 1, Soft inpainting preservation strength: 0.5" in texts[0]


def test_token_merging_stands_where_the_field_has_it_and_the_noise_schedule_among_the_options():
    options = GuidanceOptions(token_merging=0.5, token_merging_hr=0.3, noise_schedule="Zero Terminal SNR")
    request = GenerationRequest(seed=1, clip_skip=2, rng="NV", guidance=options)
    params = read(write(request)).params
    keys = list(params)
    assert keys[keys.index("Clip skip") : keys.index("RNG")] == ["Clip skip", "Token merging ratio", "Token merging ratio hr"]
    assert (params["Token merging ratio"], params["Noise Schedule"]) == ("0.5", "Zero Terminal SNR")
    assert to_request(read(write(request)), GenerationRequest())[0].guidance == options


def test_an_interrupted_picture_has_no_problems():
    facts = Facts(extra={"Lora hashes": "a: 0123", "TI hashes": "b: 4567", "Interrupted": "True"})
    assert to_request(read(write(GenerationRequest(seed=1), facts)), GenerationRequest())[1] == []


def test_without_notes_only_what_changes_pictures_is_a_problem():
    text = "x\nSteps: 5, Seed: 1, Size: 64x64, Civitai resources: [], Hires refiner: x, VAE Encoder: TAESD, Downcast alphas_cumprod: True"
    _, problems = to_request(read(text), GenerationRequest(), notes=False)
    assert [problem.split(":")[0] for problem in problems] == [
        "Hires refiner x is not used",
        "VAE Encoder",
        "Downcast alphas_cumprod",
    ]
    assert len(to_request(read(text), GenerationRequest())[1]) == 4


def test_windows_line_ends_change_nothing():
    assert read(A1111.replace("\n", "\r\n") + "\r\n") == read(A1111)


def test_a_prompt_of_weights_is_no_settings():
    text = "x, (blue eyes:1.2), (red hair:1.1), (hat:1.3)"
    assert read(text) == read(text).__class__(text, "", {})


@pytest.mark.parametrize(
    "text", ["style: modern, mood: calm, light: soft", "Size: huge, mood: calm, Seed: of life", "Steps: 20", "a:b", ","]
)
def test_prompts_with_colons_stay_prompts(text):
    assert read(text).prompt == text


def test_a_last_line_of_three_items_with_a_known_sampler_is_settings():
    told = read("a cat\nSampler: Euler a, Model: foo, Version: v1.6.0")
    assert (told.prompt, told.params) == ("a cat", {"Sampler": "Euler a", "Model": "foo", "Version": "v1.6.0"})
    for prompt in ("Sampler: Euler a, Model: foo", "Sampler: a DJ, mood: calm, light: soft", "Model: Kate, mood: calm, Version: v2"):
        assert read(f"a cat\n{prompt}").params == {}


def test_an_empty_value_is_an_empty_text():
    params = read("x\nSteps: 2, Aesthetic text: , Seed: 3").params
    assert params == {"Steps": "2", "Aesthetic text": "", "Seed": "3"}


def test_inline_json_is_kept_whole():
    json = '[{"type":"model","versions":[1,2],"name":"a ] , b"},{"weight":0.5}]'
    params = read(f"x\nSteps: 2, Civitai resources: {json}, Seed: 3, Size: 8x16").params
    assert params == {"Steps": "2", "Civitai resources": json, "Seed": "3", "Size-1": "8", "Size-2": "16"}


def test_line_breaks_in_values_do_not_lose_the_settings():
    settings = "Steps: 20, Sampler: Euler, Seed: 7, Size: 64x64, Template: red\ngreen cat, Hires upscale: 2, Version: v1.6"
    told = read("a cat\nNegative prompt: dog\n" + settings)
    assert (told.prompt, told.negative_prompt) == ("a cat", "dog")
    assert told.params["Seed"] == "7"
    assert told.params["Template"] == "red\ngreen cat"
    assert told.params["Hires upscale"] == "2"


@pytest.mark.parametrize("first", ["Size: 512x768", "Seed: 5", "CFG scale: 7"])
def test_settings_may_begin_with_any_key(first):
    told = read(f"a cat\n{first}, Sampler: Euler a, Steps: 12, Clip skip: 2")
    assert told.prompt == "a cat"
    assert told.params["Steps"] == "12"


def test_what_follows_settings_at_great_length_is_not_lost():
    text = "x\nSteps: 2, Seed: 1, Size: 8x8" + "\n" * 1_000_001 + "end"
    assert read(text).prompt == text


def test_unclosed_quotes_and_brackets_end_at_the_comma():
    params = read('x\nSteps: 2, A1: "b, B1: [c, C1: {"d, Seed: 3').params
    assert params == {"Steps": "2", "A1": '"b', "B1": "[c", "C1": '{"d', "Seed": "3"}


def test_old_joined_sampler_names_are_split():
    request, problems = to_request(
        read("x\nSteps: 5, Sampler: DPM++ 2M SDE Karras, Seed: 1"), GenerationRequest(schedule_type="Exponential")
    )
    assert (request.sampler, request.schedule_type, problems) == ("DPM++ 2M SDE", "Karras", [])


def test_a_bad_field_spoils_no_other():
    text = (
        "x\nSteps: many, Sampler: Warp, CFG scale: nan, Seed: -7, Size: 99999x64, Clip skip: 3, Denoising strength: 0.5, Hires refiner: 2"
    )
    base = GenerationRequest(steps=11, sampler="Euler", cfg_scale=3, seed=4, width=128, height=128)
    request, problems = to_request(read(text), base)
    assert request == replace(base, prompt="x", clip_skip=3, rng="GPU", sampler_options=SamplerOptions(), guidance=GuidanceOptions())
    assert [problem.split()[0] for problem in problems] == ["sampler", "Size-1", "Denoising", "Steps", "CFG", "Seed", "Hires"]


def test_absent_keys_keep_the_base_and_defaults_come_back():
    base = GenerationRequest(steps=11, width=128, height=64, seed=4, clip_skip=5, variation_strength=0.5, checkpoint="c.ckpt")
    request, _ = to_request(read("x\nSampler: Euler, CFG scale: 7, Seed: 2"), base)
    back = {"clip_skip": 1, "variation_strength": 0.0, "rng": "GPU", "sampler_options": SamplerOptions()}
    back["guidance"] = GuidanceOptions()
    assert request == replace(base, prompt="x", sampler="Euler", seed=2, **back)


def test_a_prompt_alone_keeps_the_noise_source_and_the_sampler_options():
    base = GenerationRequest(rng="NV", sampler_options=SamplerOptions(eta=0.5))
    request, _ = to_request(read("a cat"), base)
    assert (request.rng, request.sampler_options) == ("NV", base.sampler_options)


def test_sampler_options_stand_in_the_text_as_the_field_spells_them():
    options = SamplerOptions(eta=0.67, s_churn=2.0, s_noise=1.01, sigma_min=0.1, rho=5.0, discard_penultimate_sigma=True, ensd=31337)
    text = write(GenerationRequest(seed=1, clip_skip=2, rng="NV", sampler_options=options), Facts(version="v1.10.1"))
    assert "Clip skip: 2, ENSD: 31337, RNG: NV, Eta: 0.67, Sigma churn: 2, Sigma noise: 1.01, Schedule min sigma: 0.1" in text
    assert "Schedule rho: 5, Discard penultimate sigma: True, Version: v1.10.1" in text
    assert to_request(read(text), GenerationRequest())[0].sampler_options == options


def test_what_is_the_default_does_not_stand_in_the_text():
    text = write(GenerationRequest(seed=1, sampler_options=SamplerOptions()))
    assert not [option.key for option in OPTIONS if f"{option.key}:" in text]


def test_an_option_out_of_range_is_told_and_not_used():
    request, problems = to_request(read("x\nSteps: 5, Seed: 1, Size: 64x64, Eta: 99, RNG: ERNIE"), GenerationRequest())
    assert (request.rng, request.sampler_options) == ("GPU", SamplerOptions())
    assert [problem.split()[0] for problem in problems] == ["RNG", "Eta"]


def test_a_seed_without_a_noise_source_is_the_devices_own():
    assert to_request(read("x\nSteps: 5, Seed: 1, Size: 64x64"), GenerationRequest())[0].rng == "GPU"
    assert to_request(read("x\nSteps: 5, Size: 64x64"), GenerationRequest())[0].rng == "CPU"


def test_an_init_image_that_the_text_does_not_name_is_kept():
    init = InitImage(image="a" * 64, denoising_strength=0.2, inpaint=Inpaint(mask="b" * 64))
    text = "x\nSteps: 5, Seed: 1, Size: 64x64, Denoising strength: 0.6, Mask blur: 7, Inpaint area: Only masked, Masked area padding: 16"
    request, problems = to_request(read(text), GenerationRequest(init=init))
    assert request.init == replace(
        init, denoising_strength=0.6, inpaint=Inpaint(mask="b" * 64, blur_x=7, blur_y=7, only_masked=True, padding=16)
    )
    assert problems == []


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("v1-5.safetensors", "v1-5"),
        ("people/v1-5.safetensors", "v1-5"),
        ("old.ckpt", "old"),
        ("a folder", "a folder"),
        ("in/v1.5 folder", "v1.5 folder"),
        ("x/.ckpt", "x/.ckpt"),
    ],
)
def test_a_checkpoint_is_named_by_the_stem_of_its_file_as_a1111_does_and_comes_back_whole(name: str, model: str) -> None:
    request = GenerationRequest(checkpoint=name, refiner=Refiner(checkpoint=name, switch_at=0.5))
    told = read(write(request))
    assert (told.params["Model"], told.params["Refiner"]) == (model, model)
    back, _ = to_request(told, GenerationRequest())
    assert back.checkpoint == name
    assert back.refiner is not None
    assert back.refiner.checkpoint == name


def test_a_checkpoint_known_by_its_hash_alone_is_asked_for_by_hash():
    request, _ = to_request(read("x\nSteps: 5, Seed: 1, Model hash: 6ce0161689"), GenerationRequest(checkpoint="other"))
    assert (request.checkpoint, request.checkpoint_hash) == ("6ce0161689", "6ce0161689")


@settings(max_examples=2000, deadline=None)
@given(st.one_of(st.text(max_size=200), TEXTS, st.lists(st.sampled_from([*TRICKS, *' ,:"[]{}\\x0']), max_size=30).map("".join)))
def test_no_text_makes_the_reader_fail(text):
    told = read(text)
    to_request(told, GenerationRequest())
    read(f"x\nSteps: 5, Seed: 1, Size: 8x8, {text}")


HARD = [
    "a",
    ", ",
    "ab: [, ",
    'ab: ", ',
    "ab: {, ",
    "ab: [",
    'ab: ["x',
    'ab: "',
    '\\"',
    "\n",
    "ab:c,",
    "Steps: 1\n",
    '["k: [", ',
    "Steps: 2, Seed: 1, ",
    "Negative prompt:\n",
]


@pytest.mark.parametrize("piece", HARD)
def test_four_megabytes_are_read_in_linear_time(piece):
    text = "x\nSteps: 2, Seed: 1, Size: 8x8, " + piece * (4_000_000 // len(piece))
    with at_most(4):  # seconds, on a busy machine
        read(text)


@pytest.mark.parametrize("piece", HARD)
def test_half_a_megabyte_of_settings_is_read_in_linear_time(piece):
    text = "x\nSteps: 2, Seed: 1, Size: 8x8, " + piece * (500_000 // len(piece))
    with at_most(4):
        to_request(read(text), GenerationRequest())


def test_an_unknown_prediction_type_is_told_and_not_taken() -> None:
    request, problems = to_request(read("a\nSteps: 5, Sampler: Euler, Seed: 1, Prediction type: sample"), GenerationRequest())
    assert request.prediction_type == ""
    assert any("Prediction type sample is not known" in problem for problem in problems)


def test_styles_that_were_chosen_are_not_put_into_a_prompt_that_is_read():
    base = GenerationRequest(styles=("ink",), template="{a|b}", negative_template="{c|d}")
    request = to_request(read("x\nSteps: 5, Seed: 1, Size: 64x64"), base)[0]
    assert (request.prompt, request.styles, request.template, request.negative_template) == ("x", (), "", "")


def test_templates_stand_beside_the_prompts_and_are_passed_over_in_silence():
    text = write(GenerationRequest(prompt="red", template="{red|blue}, x", negative_template="__bad__", seed=1))
    assert read(text).params["Template"] == "{red|blue}, x"
    assert read(text).params["Negative Template"] == "__bad__"
    request, problems = to_request(read(text), GenerationRequest())
    assert (request.prompt, request.template, problems) == ("red", "", [])


def test_the_templates_of_hires_fix_are_written_and_read_back() -> None:
    hires = HiresFix(prompt="b 3", template="b {3|4}", negative_prompt="c", negative_template="{c|d}")
    text = write(GenerationRequest(prompt="x", seed=1, hires=hires))
    assert read(text).params["Hires template"] == "b {3|4}"
    request, problems = to_request(read(text), GenerationRequest())
    assert (request.hires, problems) == (hires, [])


@pytest.mark.parametrize("version", ["", ", Version: v1.10.1"])
def test_what_looks_like_chance_in_another_programs_text_is_text(version: str) -> None:
    settings = f"Steps: 5, Seed: 1, Size: 64x64, Hires upscale: 2, Hires prompt: __b__, Template: x{version}"
    request, _ = to_request(read(f"a {{b|c}}\nNegative prompt: plain\n{settings}"), GenerationRequest())
    assert (request.prompt, request.template, request.negative_template) == ("a {b|c}", "a {b|c}", "")
    assert request.hires is not None
    assert (request.hires.prompt, request.hires.template) == ("__b__", "__b__")
    again, problems = to_request(read(write(request)), GenerationRequest())
    assert (again.template, again.hires, problems) == (request.template, request.hires, [])


HIRES_TEXT = (
    "x\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, Denoising strength: 0.45, {}"
    "Hires upscaler: Latent (bicubic antialiased), Version: v1.10.1"
)


def test_hires_fix_of_a1111_is_read():
    told = "Hires resize: 1024x0, Hires checkpoint: big [0123456789], Hires sampler: DPM++ 2M Karras, Hires prompt: fine, Hires steps: 9, "
    request, problems = to_request(read(HIRES_TEXT.format(told)), GenerationRequest())
    assert request.hires == HiresFix(
        denoising_strength=0.45,
        width=1024,
        upscaler="Latent (bicubic antialiased)",
        steps=9,
        sampler="DPM++ 2M",
        schedule_type="Automatic",
        checkpoint="big [0123456789]",
        prompt="fine",
    )
    assert problems == []


def test_what_hires_fix_names_and_nobody_has_is_told():
    told = "Hires upscale: 9, Hires sampler: Warp, Hires schedule type: Use same scheduler, "
    text = HIRES_TEXT.format(told).replace("Latent (bicubic antialiased)", "R-ESRGAN 4x+")
    request, problems = to_request(read(text), GenerationRequest())
    assert request.hires == HiresFix(denoising_strength=0.45, upscaler="R-ESRGAN 4x+")  # a model, which only the catalog can miss
    assert [problem.partition(" is not used")[0] for problem in problems] == ["Hires sampler Warp", "Hires upscale 9"]


def test_in_a_tab_with_a_picture_only_the_strength_of_hires_fix_counts():
    init = InitImage(image="a" * 64)
    request, problems = to_request(read(HIRES_TEXT.format("")), GenerationRequest(init=init))
    assert (request.init, request.hires, problems) == (replace(init, denoising_strength=0.45), None, [])


def test_hires_fix_is_written_in_the_order_of_a1111():
    hires = HiresFix(scale=1.5, denoising_strength=0.5, checkpoint="a.safetensors", checkpoint_hash="0123456789", sampler="Euler")
    hires = replace(hires, prompt="p, q", negative_prompt="n", schedule_type="Karras", steps=4, cfg_scale=3)
    assert (
        "Denoising strength: 0.5, RNG: CPU, Hires upscale: 1.5, Hires checkpoint: a [0123456789], Hires sampler: Euler, "
        'Hires prompt: "p, q", '
        "Hires negative prompt: n, Hires CFG Scale: 3, Hires schedule type: Karras, Hires steps: 4, Hires upscaler: Latent, Version"
    ) in write(GenerationRequest(seed=1, hires=hires))


def test_a_script_that_extended_a_picture_is_named():
    outpaint = Outpaint(right=64, way="Outpainting mk2", falloff=1.5, tile_width=512, tile_height=512)
    told = write(GenerationRequest(seed=1, init=InitImage(image="a" * 64, outpaint=outpaint)))
    assert (
        "Script: Outpainting mk2, Outpaint left: 0, Outpaint right: 64, Outpaint top: 0, Outpaint bottom: 0, Outpaint blur: 8, "
        "Outpaint falloff: 1.5, Outpaint tile: 512x512, Version"
    ) in told


def test_a_refiner_of_a1111s_is_read():
    text = "x\nSteps: 5, Seed: 1, Size: 64x64, Refiner: sd_xl_refiner_1.0 [7440042bbd], Refiner switch at: 0.75, Hires refiner: both passes"
    request, problems = to_request(read(text), GenerationRequest())
    told = {"checkpoint": "sd_xl_refiner_1.0 [7440042bbd]", "switch_at": 0.75, "hires_pass": "both passes"}
    assert (request.refiner, problems) == (Refiner(**told), [])
    by_steps = to_request(read(f"{text}, Refiner switch by sampling steps: True"), GenerationRequest())[0].refiner
    assert by_steps == Refiner(**told, by_steps=True)


@pytest.mark.parametrize("rest", ["", ", Refiner: None", ", Refiner switch at: 0.5"])
def test_a_text_without_a_refiner_takes_it_away(rest):
    base = GenerationRequest(refiner=Refiner(checkpoint="r"))
    assert to_request(read(f"x\nSteps: 5, Seed: 1, Size: 64x64{rest}"), base)[0].refiner is None


def test_the_refiner_is_written_as_a1111_does():
    refiner = Refiner(checkpoint="fine.safetensors", checkpoint_hash="0123456789", switch_at=0.5)
    assert ", Refiner: fine [0123456789], Refiner switch at: 0.5, Version" in write(GenerationRequest(seed=1, refiner=refiner))
