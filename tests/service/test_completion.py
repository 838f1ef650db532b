"""webui/service/completion.py."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service.conftest import write_checkpoint
from webui.core.catalog import Catalog
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.core.extras import ExtrasRequest
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.model_orders import SaveOrder, WeightsOrder
from webui.core.preferences import PREFERENCES
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint
from webui.core.sampler_options import SamplerOptions
from webui.core.settings import Settings
from webui.service.completion import complete, complete_extras, complete_order, complete_weights
from webui.service.inputs import InputStore
from webui.service.phrases import Phrases
from webui.service.wording import before_chance

DEFAULTS = {preference.name: preference.default for preference in PREFERENCES}
Complete = Callable[..., GenerationRequest]


@pytest.fixture
def inputs(tmp_path: Path) -> InputStore:
    return InputStore(tmp_path / "inputs")


@pytest.fixture
def completed(settings: Settings, inputs: InputStore, tmp_path: Path) -> Complete:
    """Completes a request with these fields; `prefer` are preferences."""

    def run(prefer: dict[str, Any] | None = None, ckpt: str | None = None, **fields: Any) -> GenerationRequest:
        preferences = DEFAULTS | (prefer or {})
        catalog = Catalog(replace(settings, checkpoint=ckpt))
        return complete(GenerationRequest(**fields), catalog, preferences, inputs.open, Phrases(tmp_path / "data"))

    return run


def add(inputs: InputStore, width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return inputs.add(buffer.getvalue())


def test_nothing_given_means_the_built_in_checkpoint_at_its_own_size(completed: Complete) -> None:
    request = completed()
    assert (request.checkpoint, request.vae, request.width, request.height) == ("small.safetensors", "None", 128, 128)
    assert len(request.checkpoint_hash) == 10
    assert 0 <= request.seed < 2**32
    request.validate()


def test_sampler_options_and_noise_source_that_nobody_tells_are_the_preferred_ones(completed: Complete) -> None:
    preferred = {"eta_ancestral": 0.5, "eta_noise_seed_delta": 31337, "randn_source": "NV"}
    request = completed(preferred)
    assert (request.sampler_options, request.rng) == (SamplerOptions(eta=0.5, ensd=31337), "NV")
    told = completed(preferred, sampler_options=SamplerOptions(), rng="GPU")
    assert (told.sampler_options, told.rng) == (SamplerOptions(), "GPU")


def test_completing_twice_changes_nothing(completed: Complete) -> None:
    once = completed(sampler="k_dpmpp_2m_ka")
    assert completed(**vars(once)) == once
    assert (once.sampler, once.schedule_type) == ("DPM++ 2M", "Karras")


@pytest.mark.parametrize(
    ("sampler", "actual"), [("DPM++ 2M", "Karras"), ("DPM++ 2M SDE", "Exponential"), ("Euler", "Automatic"), ("DDIM", "Automatic")]
)
def test_an_automatic_schedule_type_becomes_that_of_the_sampler_if_it_has_one(completed: Complete, sampler: str, actual: str) -> None:
    assert completed(sampler=sampler).schedule_type == actual
    assert completed(sampler=sampler, schedule_type="SGM Uniform").schedule_type == "SGM Uniform"


def test_the_same_request_is_completed_to_the_same_unless_it_leaves_something_to_chance(completed: Complete) -> None:
    assert completed(seed=5) == completed(seed=5)
    assert completed(seed=5, variation_seed=7).variation_seed == 7
    assert len({completed(seed=5, variation_strength=0.1).variation_seed for _ in range(20)}) == 20


def test_seeds_are_drawn_anew_and_seed_zero_is_a_seed(completed: Complete) -> None:
    assert len({completed().seed for _ in range(20)}) == 20
    assert completed(seed=0, variation_seed=0).seed == 0
    with pytest.raises(BadRequest, match="seed -2"):
        completed(seed=-2)


def test_a_variation_seed_is_drawn_only_where_it_counts(completed: Complete) -> None:
    assert completed(variation_seed=-1).variation_seed == 0
    assert completed(variation_seed=-1, variation_strength=0.5).variation_seed != completed(variation_strength=0.5).variation_seed


def test_the_request_goes_before_the_preference_and_that_before_ckpt(completed: Complete, settings: Settings) -> None:
    for name in ("one", "two", "three"):
        write_checkpoint(settings.checkpoint_dirs[0] / f"{name}.safetensors", 768)
    assert completed({"sd_model_checkpoint": "two"}, "three", checkpoint="one").checkpoint == "one.safetensors"
    assert completed({"sd_model_checkpoint": "two"}, "three").checkpoint == "two.safetensors"
    assert completed(None, "three").checkpoint == "three.safetensors"
    assert completed(None, "three").width == 512


def test_a_checkpoint_that_is_not_there_or_cannot_be_used_is_refused(completed: Complete, settings: Settings) -> None:
    with pytest.raises(MissingModel, match="absent"):
        completed(checkpoint="absent")
    (settings.checkpoint_dirs[0]).mkdir(parents=True)
    (settings.checkpoint_dirs[0] / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(BadModelFile, match="broken"):
        completed(checkpoint="broken")


def test_the_vae_is_named_or_none(completed: Complete, settings: Settings) -> None:
    write_checkpoint(settings.checkpoint_dirs[0] / "one.safetensors")
    write_checkpoint(settings.checkpoint_dirs[0] / "one.vae.safetensors")
    write_checkpoint(settings.vae_dirs[0] / "other.safetensors")
    assert completed(checkpoint="one").vae == "one.vae.safetensors"
    assert len(completed(checkpoint="one").vae_hash) == 10
    assert completed(checkpoint="one", vae="None").vae == "None"
    assert completed({"sd_vae": "None"}, checkpoint="one").vae == "None"
    assert completed({"sd_vae": "other"}, checkpoint="one").vae == "other.safetensors"
    assert completed({"sd_vae": "other"}, checkpoint="one", vae="None").vae == "None"
    (settings.checkpoint_dirs[0] / "one.json").write_text('{"vae": "other"}')
    assert completed(checkpoint="one").vae == "other.safetensors"
    assert completed({"sd_vae": "None"}, checkpoint="one").vae == "None"
    with pytest.raises(MissingModel, match="absent"):
        completed(vae="absent")


def test_a_checkpoint_without_text_encoder_gets_the_preferred_one_or_that_of_its_card(completed: Complete, settings: Settings) -> None:
    write_checkpoint(settings.checkpoint_dirs[0] / "bare.safetensors", 768)
    write_checkpoint(settings.checkpoint_dirs[0] / "tiny.safetensors", 256)
    for name in ("a", "b"):
        write_encoder(settings.text_encoder_dir / f"{name}.safetensors", 768)
    preferred = {"text_encoder_clip_l": "a.safetensors"}
    assert completed(checkpoint="bare").text_encoder == ""
    assert completed(preferred, checkpoint="bare").text_encoder == "a.safetensors"
    assert completed(preferred, checkpoint="tiny").text_encoder == ""
    assert completed(preferred, checkpoint="tiny", refiner=Refiner(checkpoint="bare", switch_at=0.5)).text_encoder == "a.safetensors"
    (settings.checkpoint_dirs[0] / "bare.json").write_text('{"text encoder": "b"}')
    assert completed(preferred, checkpoint="bare").text_encoder == "b.safetensors"
    assert completed(preferred, checkpoint="bare", text_encoder="a").text_encoder == "a.safetensors"
    done = completed(preferred, checkpoint="bare")
    assert completed(**vars(done)) == done
    order = complete_order(SaveOrder(checkpoint="bare", name="whole"), Catalog(settings), DEFAULTS | preferred)
    assert isinstance(order, SaveOrder)
    assert order.text_encoder == "b.safetensors"
    weights = complete_weights(WeightsOrder(action="reload", checkpoint="bare"), Catalog(settings), DEFAULTS | preferred)
    assert (weights.checkpoint, weights.text_encoder) == ("bare.safetensors", "b.safetensors")


def write_encoder(path: Path, width: int) -> None:
    """The beginning of a text encoder: the header alone says what it is."""
    header = json.dumps(
        {"embeddings.token_embedding.weight": {"dtype": "F16", "shape": [1, width], "data_offsets": [0, 2 * width]}}
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2 * width))


def test_half_a_surrogate_pair_becomes_a_question_mark(completed: Complete) -> None:
    request = completed(prompt="a\ud800b 🎨", negative_prompt="\udfff")
    assert (request.prompt, request.negative_prompt) == ("a?b 🎨", "?")


def test_an_init_image_gives_its_size_in_multiples_of_8(completed: Complete, inputs: InputStore) -> None:
    image = InitImage(image=add(inputs, 100, 207))
    assert (completed(init=image).width, completed(init=image).height) == (96, 200)
    assert (completed(init=image, width=64).width, completed(init=image, width=64).height) == (64, 200)
    tiny = InitImage(image=add(inputs, 20, 30))
    assert (completed(init=tiny).width, completed(init=tiny).height) == (64, 64)


def test_outpainting_adds_its_sides(completed: Complete, inputs: InputStore) -> None:
    image = InitImage(image=add(inputs, 128, 128), outpaint=Outpaint(left=64, top=8, bottom=16))
    request = completed(init=image, width=512, height=512)
    assert (request.width, request.height) == (192, 152)
    odd = InitImage(image=add(inputs, 20, 207), outpaint=Outpaint(left=64, top=8))
    assert (completed(init=odd).width, completed(init=odd).height) == (84, 215)


def test_a_picture_that_is_too_large_is_refused_with_the_limit(completed: Complete, inputs: InputStore) -> None:
    sha256 = add(inputs, 4096, 64)
    with pytest.raises(BadRequest, match="the picture, extended, would have 4104 x 64 pixels; at most 4096 x 4096 can be made"):
        completed(init=InitImage(image=sha256, outpaint=Outpaint(left=8)))
    assert completed(init=InitImage(image=sha256)).width == 4096


def test_a_picture_that_is_too_small_even_when_extended_is_refused_as_such(completed: Complete, inputs: InputStore) -> None:
    with pytest.raises(BadRequest, match="the picture, extended, would have 112 x 48 pixels; at least 64 x 64 are needed"):
        completed(init=InitImage(image=add(inputs, 48, 48), outpaint=Outpaint(left=64)))


def test_inputs_that_are_not_there_are_refused(completed: Complete, inputs: InputStore) -> None:
    with pytest.raises(MissingModel, match="send it again"):
        completed(init=InitImage(image="0" * 64))
    with pytest.raises(MissingModel, match="send it again"):
        completed(init=InitImage(image=add(inputs, 64, 64), inpaint=Inpaint(mask="0" * 64)))
    with pytest.raises(MissingModel, match="send it again"):
        completed(init=InitImage(image=add(inputs, 64, 64), inpaint=Inpaint(mask=add(inputs, 64, 64), latent_mask="0" * 64)))


def test_comments_leave_both_prompts_unless_they_are_wanted(completed: Complete) -> None:
    prompts = {"prompt": "a cat # or a dog\n# <lora:missing:1>\n, red", "negative_prompt": "#\nblurry"}
    done = completed(**prompts)
    assert (done.prompt, done.negative_prompt) == ("a cat \n, red", "blurry")
    with pytest.raises(MissingModel):
        completed(prefer={"enable_prompt_comments": False}, **prompts)


def test_guidance_that_the_request_leaves_open_is_the_preferred_one(completed: Complete) -> None:
    prefer = {"emphasis": "No norm", "s_min_uncond": 2.0}
    assert completed().guidance == GuidanceOptions()
    assert completed(prefer).guidance == GuidanceOptions(emphasis="No norm", ngms=2.0)
    own = GuidanceOptions(rescale=0.5)
    assert completed(prefer, guidance=own).guidance == own


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"prompt": "[" * 65}, "64 brackets"),
        ({"negative_prompt": "(" * 65}, "64 brackets"),
        ({"prompt": "a " + "AND b " * 40}, "41 parts"),
        ({"prompt": "[(a:20000)|b]"}, "weight of 20000"),
        ({"prompt": "[a|b]" + "c" * 90_000, "steps": 40}, "changes 40 times"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_before_they_wait(completed: Complete, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        completed(**fields)


def test_weights_are_not_looked_at_where_they_are_text(completed: Complete) -> None:
    completed(prompt="(a:20000)", guidance=GuidanceOptions(emphasis="None"))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / "data" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def test_styles_are_put_into_the_prompts_and_unknown_ones_are_passed_over(completed: Complete, tmp_path: Path) -> None:
    write(tmp_path, styles_dot_csv="name,prompt,negative_prompt\nink,ink drawing of {prompt},colour\nbig,huge,\n")
    done = completed(prompt="a cat", negative_prompt="blurry", styles=("ink", "gone", "None", "", "big"))
    assert (done.prompt, done.negative_prompt, done.styles) == ("ink drawing of a cat, huge", "blurry, colour", ())


def test_what_is_left_to_chance_is_decided_by_the_seed_and_told_beside_the_prompt(completed: Complete, tmp_path: Path) -> None:
    write(tmp_path, wildcards__animal_dot_txt="cat\n# a comment\n\n{red|blue} fox\n")
    template, negative = "{a|the|one} __animal__", "{blurry|dark}"
    made = [completed(prompt=template, negative_prompt=negative, seed=seed) for seed in range(40)]
    nouns = ("cat", "red fox", "blue fox")
    assert {done.prompt for done in made} == {f"{article} {noun}" for article in ("a", "the", "one") for noun in nouns}
    assert {done.negative_prompt for done in made} == {"blurry", "dark"}
    assert {(done.template, done.negative_template) for done in made} == {(template, negative)}
    assert completed(prompt=template, negative_prompt=negative, seed=3) == made[3]
    assert completed(**vars(made[3])) == made[3]


def test_each_picture_of_a_job_is_decided_by_its_own_seed(completed: Complete) -> None:
    asked = {"prompt": "{a|b|c|d} cat", "negative_prompt": "{x|y}", "hires": HiresFix(prompt="{big|huge} cat"), "seed": 5}
    job = completed(**asked, batch_size=2, batch_count=4)
    assert (job.batch_size, job.batch_count, job.template) == (1, 8, "{a|b|c|d} cat")
    assert len({job.single(i).prompt for i in range(8)}) > 1
    for i in range(8):
        assert job.single(i) == completed(**asked | {"seed": 5 + i})
    assert GenerationRequest.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert completed(**vars(job)) == job


def test_a_batch_stays_one_where_chance_gives_all_pictures_the_same(completed: Complete) -> None:
    job = completed(prompt="{a|a} cat", seed=5, batch_size=2, batch_count=2)
    assert (job.prompt, job.template, job.each, job.batch_size) == ("a cat", "{a|a} cat", (), 2)


def test_chance_is_not_asked_for_more_pictures_than_can_be_told(completed: Complete) -> None:
    with pytest.raises(BadRequest, match="at most 1000 pictures"):
        completed(prompt="{a|b}", batch_size=64, batch_count=20)
    with pytest.raises(BadRequest, match="5000000 characters"):
        completed(prompt="{a|b}" + "x" * 50_000, batch_count=200)


def test_a_drawn_seed_is_the_one_that_decided(completed: Complete) -> None:
    done = completed(prompt="{a|b|c|d|e|f|g|h}")
    assert completed(prompt=done.template, seed=done.seed) == done


def test_the_template_of_hires_fix_is_kept_and_asked_for_again(completed: Complete) -> None:
    done = completed(prompt="a {1|2}", hires=HiresFix(prompt="b {3|4}", negative_prompt="c"), seed=5)
    assert done.hires is not None
    assert done.hires.prompt in ("b 3", "b 4")
    assert (done.template, done.hires.template, done.hires.negative_template) == ("a {1|2}", "b {3|4}", "")
    asked = before_chance(done)
    assert asked.hires is not None
    assert (asked.prompt, asked.hires.prompt, asked.template, asked.hires.template) == ("a {1|2}", "b {3|4}", "", "")
    assert completed(**vars(asked)) == completed(**vars(done)) == done


def test_a_prompt_that_is_its_own_template_is_text(completed: Complete, tmp_path: Path) -> None:
    write(tmp_path, styles_dot_csv="name,prompt,negative_prompt\nink,ink,\n")
    text = "a {b|c} __nosuch__"
    done = completed(prompt=text, template=text, negative_prompt="{x|y}", styles=("ink",), hires=HiresFix(prompt="{3|4}", template="{3|4}"))
    assert (done.prompt, done.template) == (f"{text}, ink", f"{text}, ink")
    assert done.negative_prompt in ("x", "y")
    assert done.hires is not None
    assert (done.hires.prompt, done.hires.template) == ("{3|4}, ink", "{3|4}, ink")
    assert before_chance(done).template == done.template


def test_prompts_that_leave_nothing_to_chance_have_no_template(completed: Complete) -> None:
    done = completed(prompt="a {cat}, [red|blue] \\{x|y\\} snake_case", negative_prompt="")
    assert (done.prompt, done.template) == ("a {cat}, [red|blue] \\{x|y\\} snake_case", "")


def test_a_wildcard_without_a_file_is_refused_with_the_folder(completed: Complete, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"missing\.txt into .*wildcards"):
        completed(prompt="a __missing__")


def test_hires_fix_gets_its_checkpoint_by_name_and_hash(completed: Complete, settings: Settings) -> None:
    write_checkpoint(settings.checkpoint_dirs[0] / "large.safetensors")
    hires = completed(hires=HiresFix(checkpoint="large")).hires
    assert hires is not None
    assert (hires.checkpoint, len(hires.checkpoint_hash)) == ("large.safetensors", 10)
    with pytest.raises(MissingModel, match="gone"):
        completed(hires=HiresFix(checkpoint="gone"))


def test_upscalers_are_spelled_as_their_files_are_and_missing_ones_are_refused(completed: Complete, settings: Settings) -> None:
    settings.upscaler_dirs[1].mkdir(parents=True)
    (settings.upscaler_dirs[1] / "4x-Sharp.pth").write_bytes(b"x")
    hires = completed(hires=HiresFix(upscaler="4X-sharp")).hires
    assert hires is not None
    assert hires.upscaler == "4x-Sharp"
    with pytest.raises(MissingModel, match="upscaler 'gone' is not known; choose one of: None, Lanczos, Nearest, 4x-Sharp"):
        completed(hires=HiresFix(upscaler="gone"))
    request = ExtrasRequest(images=("0" * 64,), upscaler="lanczos", second_upscaler="4x-sharp.pth")
    done = complete_extras(request, Catalog(settings), lambda sha256: (64, 64))
    assert (done.upscaler, done.second_upscaler) == ("Lanczos", "4x-Sharp")
    with pytest.raises(BadRequest, match="9000x9000 would become"):
        complete_extras(request, Catalog(settings), lambda sha256: (9000, 9000))


@pytest.mark.parametrize(
    ("first", "told", "expected"),
    [
        (("DPM++ 2M", "Automatic"), ("", ""), ("", "")),
        (("DPM++ 2M", "Automatic"), ("DPM++ 2M SDE", ""), ("DPM++ 2M SDE", "Exponential")),
        (("Euler", "Karras"), ("DDIM", ""), ("DDIM", "Karras")),
        (("Euler", "Karras"), ("", "SGM Uniform"), ("Euler", "SGM Uniform")),
        (("Euler", "Karras"), ("k_dpmpp_2m", "automatic"), ("DPM++ 2M", "Karras")),
        (("Euler", "Exponential"), ("DPM++ 2M Karras", ""), ("DPM++ 2M", "Karras")),
    ],
)
def test_the_sampler_of_hires_fix_is_settled_where_it_is_its_own(
    completed: Complete, first: tuple[str, str], told: tuple[str, str], expected: tuple[str, str]
) -> None:
    hires = HiresFix(sampler=told[0], schedule_type=told[1])
    done = completed(sampler=first[0], schedule_type=first[1], hires=hires).hires
    assert done is not None
    assert (done.sampler, done.schedule_type) == expected


def test_a_picture_for_hires_fix_gives_the_size(completed: Complete, inputs: InputStore) -> None:
    request = completed(hires=HiresFix(image=add(inputs, 203, 96)))
    assert (request.width, request.height) == (200, 96)
    with pytest.raises(MissingModel):
        completed(hires=HiresFix(image="0" * 64))


def test_networks_of_the_hires_prompt_must_be_there(completed: Complete) -> None:
    with pytest.raises(MissingModel, match="nobody"):
        completed(hires=HiresFix(prompt="x <lora:nobody:1>"))


def test_the_refiner_gets_its_checkpoint_by_name_and_hash(completed: Complete, settings: Settings) -> None:
    write_checkpoint(settings.checkpoint_dirs[0] / "large.safetensors")
    refiner = completed(refiner=Refiner(checkpoint="large", switch_at=0.7)).refiner
    assert refiner is not None
    assert (refiner.checkpoint, len(refiner.checkpoint_hash), refiner.switch_at) == ("large.safetensors", 10, 0.7)
    with pytest.raises(MissingModel, match="gone"):
        completed(refiner=Refiner(checkpoint="gone"))
    assert completed(refiner=Refiner(checkpoint="None")).refiner is None


def test_a_refiner_that_cannot_go_on_with_the_latents_is_refused_before_queueing(completed: Complete, settings: Settings) -> None:
    write_checkpoint(settings.checkpoint_dirs[0] / "xl.safetensors", text_width=1280)
    with pytest.raises(BadRequest, match=r"xl.safetensors \(Stable Diffusion XL refiner\) cannot refine"):
        completed(refiner=Refiner(checkpoint="xl"))


def test_every_checkpoint_predicts_what_its_own_card_says(completed: Complete, settings: Settings) -> None:
    for name, predicts in (("large", "v_prediction"), ("fine", "epsilon")):
        write_checkpoint(settings.checkpoint_dirs[0] / f"{name}.safetensors")
        (settings.checkpoint_dirs[0] / f"{name}.json").write_text(json.dumps({"prediction type": predicts}))
    done = completed(hires=HiresFix(checkpoint="large"), refiner=Refiner(checkpoint="fine", hires_pass="both passes"))
    first, second = done.passes()
    assert (first.prediction_type, first.refined().prediction_type) == ("Automatic", "epsilon")
    assert (second.prediction_type, second.refined().prediction_type) == ("v_prediction", "epsilon")
    asked = completed(prediction_type="v_prediction", hires=HiresFix())  # the same checkpoint again
    assert [one.prediction_type for one in asked.passes()] == ["v_prediction"] * 2
