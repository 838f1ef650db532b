import io

import pytest
from PIL import Image

from tests.browser.conftest import write_lora
from tests.core.test_text_encoders import write_checkpoint
from tests.service.conftest import until
from tests.service.test_completion import write_encoder
from webui.core import infotext
from webui.core.aesthetic import Aesthetic
from webui.core.hires import HiresFix
from webui.core.lora_hash import lora_hash
from webui.core.request import GenerationRequest
from webui.core.xray import Recording, XrayRequest
from webui.service.model_rows import CardSearch
from webui.service.service import Service
from webui.ui import actions
from webui.ui.fields import FIELDS, GUIDANCE, QUICK, SAMPLING, TABS, spread


def shown(tab: str, **changes: object) -> dict[str, object]:
    size = {"width": 128, "height": 128} if "width" in TABS[tab] else {}
    start = {name: FIELDS[name].default for name in (*QUICK, *TABS[tab])} | {"checkpoint": "small.safetensors"} | size
    return start | changes


def picture(service: Service, colour: str = "red") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return service.add_input(buffer.getvalue())


def test_generate_queues_a_job_of_the_browser_that_asked(service: Service) -> None:
    assert actions.generate(service, "txt2img", {"client": "browser-1"}, shown("txt2img", prompt="a fox")) == []
    (job,) = service.jobs("browser-1")
    assert (job.request.prompt, job.request.width) == ("a fox", 128)


@pytest.mark.parametrize("attention", [True, False])
def test_generate_queues_a_job_that_is_looked_into_where_the_page_says_so(service: Service, attention: bool) -> None:
    assert actions.generate(service, "txt2img", {"client": "browser-1", "record": attention}, shown("txt2img", prompt="a fox")) == []
    (job,) = service.jobs("browser-1")
    assert isinstance(job.request, XrayRequest)
    assert (job.request.base.prompt, job.request.study) == ("a fox", Recording(attention=attention, first=True))


@pytest.mark.parametrize(
    ("tab", "page", "changes", "told"),
    [
        ("txt2img", {}, {"width": 100}, "multiple of 8"),
        ("txt2img", {}, {"steps": 0}, "steps 0"),
        ("txt2img", {}, {"seed": "abc"}, "whole number"),
        ("txt2img", {}, {"checkpoint": "gone.safetensors"}, "gone"),
        ("img2img", {}, {}, "no picture"),
        ("img2img", {"image": "0" * 64, "inpaint": True}, {}, "painted"),
        ("img2img", {"image": "0" * 64}, {}, "input picture"),
        ("txt2img", {"problem": "the server does not answer"}, {}, "does not answer"),
    ],
)
def test_bad_input_is_told_and_queues_nothing(
    service: Service, tab: str, page: dict[str, object], changes: dict[str, object], told: str
) -> None:
    (sentence,) = actions.generate(service, tab, page, shown(tab, **changes))
    assert told in sentence
    assert service.jobs() == []


def test_outpaint_without_a_side_is_told(service: Service) -> None:
    (sentence,) = actions.generate(service, "outpaint", {"image": picture(service)}, shown("outpaint"))
    assert "at least one side" in sentence


def test_inpaint_takes_picture_and_mask_along(service: Service) -> None:
    image, mask = picture(service), picture(service, "white")
    sent = {"client": "c", "image": image, "mask": mask, "inpaint": True}
    assert actions.generate(service, "img2img", sent, shown("img2img")) == []
    init = service.jobs("c")[0].request.init
    assert init is not None
    assert init.inpaint is not None
    assert (init.image, init.inpaint.mask) == (image, mask)


def test_fill_brings_back_every_field_of_a_request(service: Service) -> None:
    request = service.complete(
        GenerationRequest(prompt="a (red) fox", negative_prompt="blur", steps=9, sampler="Euler a", cfg_scale=4.5, width=256, height=192)
    )
    updates, problems = actions.fill(service, "txt2img", infotext.write(request), shown("txt2img"))
    filled = shown("txt2img") | updates
    assert problems == []
    assert actions.generate(service, "txt2img", {"client": "c"}, filled) == []
    again = service.jobs("c")[0].request
    assert again == GenerationRequest.from_json(request.to_json() | {"variation_seed": again.variation_seed})


def test_fill_keeps_what_the_text_does_not_say(service: Service) -> None:
    text = "a fox\nSteps: 5, Seed: 7, Clip skip: 1, RNG: CPU"
    updates, _ = actions.fill(service, "txt2img", text, shown("txt2img", cfg_scale=3.0, sampler="Heun"))
    assert updates == {"prompt": "a fox", "steps": 5, "seed": "7"}


def test_fill_takes_sampler_options_and_noise_source(service: Service) -> None:
    text = "a fox\nSteps: 5, Seed: 7, Size: 64x64, ENSD: 31337, RNG: NV, Eta: 0.67"
    updates, problems = actions.fill(service, "outpaint", text, shown("outpaint"))
    assert {name: updates[name] for name in SAMPLING if name in updates} == {
        "rng": "NV",
        "sampler_options.eta": "0.67",
        "sampler_options.ensd": 31337,
    }
    assert problems == []


def test_fill_switches_to_the_named_checkpoint(service: Service) -> None:
    updates, problems = actions.fill(service, "txt2img", "a fox\nSteps: 5, Sampler: Euler, Model: large", shown("txt2img"))
    assert updates["checkpoint"] == "large.safetensors"
    assert problems == []


def test_fill_keeps_the_checkpoint_if_the_named_one_is_missing_and_says_so(service: Service) -> None:
    updates, problems = actions.fill(service, "txt2img", "a fox\nSteps: 5, Sampler: Euler, Model: gone", shown("txt2img"))
    assert "checkpoint" not in updates
    assert any("gone" in problem and "kept small.safetensors" in problem for problem in problems)


def test_fill_tells_when_there_are_no_parameters(service: Service) -> None:
    updates, problems = actions.fill(service, "txt2img", "  ", shown("txt2img"))
    assert updates == {}
    assert len(problems) == 1


def test_fill_survives_a_widget_with_nonsense_in_it(service: Service) -> None:
    updates, _ = actions.fill(service, "txt2img", "a fox\nSteps: 5, Seed: 7, Sampler: Euler", shown("txt2img", seed="abc"))
    assert updates["seed"] == "7"


def test_outpainting_keeps_its_strength_when_a_picture_of_another_kind_is_sent(service: Service) -> None:
    text = "a fox\nSteps: 5, Sampler: Euler, Denoising strength: 0.2"
    assert "init.denoising_strength" not in actions.fill(service, "outpaint", text, shown("outpaint"))[0]
    assert actions.fill(service, "img2img", text, shown("img2img"))[0]["init.denoising_strength"] == 0.2


def test_sizes_follow_the_checkpoint_until_they_are_chosen(service: Service) -> None:
    assert actions.sizes_after(service, "large.safetensors", 128, 128) == (512, 512)
    assert actions.sizes_after(service, "large.safetensors", 128, 192) == (128, 192)
    assert actions.sizes_after(service, "large.safetensors", 136, 136) == (136, 136)


@pytest.mark.parametrize(("width", "height"), [(1600, 800), (4000, 4000), (100, 60), (128, 128), (9000, 10)])
def test_sizes_like_a_picture_keep_its_shape_and_fit_the_checkpoint(service: Service, width: int, height: int) -> None:
    sides = actions.sizes_like(service, "small.safetensors", width, height)
    assert all(side % 8 == 0 and 64 <= side <= 4096 for side in sides)
    if min(sides) > 64:
        assert sides[0] * sides[1] <= (1.2 * 128) ** 2
        assert sides[0] / sides[1] == pytest.approx(width / height, rel=0.15)


def test_a_first_visit_starts_at_the_native_size_of_the_default_checkpoint(service: Service) -> None:
    start = actions.start_values(service, None)
    assert (start["txt2img"]["width"], start["quick"]["checkpoint"].value) == (128, "small.safetensors")


def test_a_draft_comes_back_but_what_is_out_of_date_in_it_does_not(service: Service) -> None:
    drafts = {
        "txt2img": {
            "prompt": "kept",
            "aesthetic.embedding": "gone",
            "hires.upscaler": "gone",
            "sampler": "gone sampler",
            "seed": "abc",
            "unknown": 1,
            "init.denoising_strength": 0.1,
        },
        "quick": {"checkpoint": "gone.safetensors", "clip_skip": 3},
        "img2img": "nonsense",
    }
    start = actions.start_values(service, drafts)
    assert start["txt2img"].pop("styles").value == []
    assert start["txt2img"].pop("hires.checkpoint").value == "Use same checkpoint"
    assert start["txt2img"].pop("refiner.checkpoint").value == "None"
    upscaler = start["txt2img"].pop("hires.upscaler")
    assert (upscaler.value, "easel-world-x2" in dict(upscaler.choices)) == ("Latent", True)
    assert start["txt2img"].pop("aesthetic.embedding").value == "None"  # an embedding that is not there any more
    preferred = spread(service.complete(GenerationRequest()), (*SAMPLING, *GUIDANCE))
    assert start["txt2img"] == {"width": 128, "height": 128, "prompt": "kept", **preferred}
    assert (start["quick"]["checkpoint"].value, start["quick"]["clip_skip"]) == ("small.safetensors", 3)


def test_an_aesthetic_embedding_that_is_not_here_is_left_out_and_named(service: Service) -> None:
    text = infotext.write(GenerationRequest(prompt="x", seed=1, width=64, height=64, aesthetic=Aesthetic(embedding="sky", steps=9)))
    updates, problems = actions.fill(service, "txt2img", text, shown("txt2img"))
    assert "aesthetic.embedding" not in updates
    assert any("sky" in problem and "models/aesthetic_embeddings" in problem for problem in problems)
    folder = service.settings.aesthetic_dirs[0]
    folder.mkdir(parents=True)
    (folder / "sky.pt").write_bytes(b"x")
    service.models.start()
    until(lambda: service.catalog.aesthetic_embeddings())
    updates, problems = actions.fill(service, "txt2img", text, shown("txt2img"))
    assert (updates["aesthetic.embedding"], updates["aesthetic.steps"], problems) == ("sky", 9, [])


def test_loras_that_are_missing_or_other_files_are_told(service: Service) -> None:
    folder = service.settings.lora_dirs[0]
    write_lora(folder / "ink.safetensors")
    here = lora_hash(folder / "ink.safetensors")

    def problems(hashes: str) -> list[str]:
        return actions.fill(
            service, "txt2img", f'x <lora:ink:1>\nSteps: 2, Seed: 1, Size: 64x64, Lora hashes: "{hashes}"', shown("txt2img")
        )[1]

    assert problems(f"ink: {here}") == []
    assert problems("ink: e3b0c44298fc") == []  # the hash of nothing, which programs have written for files that they did not see
    (told,) = problems("ink: 0123456789ab")
    assert here in told
    assert "0123456789ab" in told
    (told,) = problems(f"ink: {here}, gone: 0123456789ab")
    assert "gone" in told
    service.models.start()
    until(lambda: service.models.search(CardSearch("lora")).cards)
    service.catalog.lora_hash(service.catalog.find_lora("ink"))
    assert problems(f"gone: {here}") == []
    text = f'x <lora:gone:0.5>\nSteps: 2, Seed: 1, Size: 64x64, Lora hashes: "gone: {here}"'
    updates, found = actions.fill(service, "txt2img", text, shown("txt2img"))
    assert updates["prompt"] == "x <lora:ink:0.5>"
    assert found == ["LoRA gone is here as ink, the same file by its hash; that was taken"]


def test_another_text_encoder_than_the_pictures_is_told_where_the_checkpoint_needs_one(service: Service) -> None:
    write_checkpoint(service.settings.checkpoint_dirs[0] / "bare.safetensors", 768)
    write_encoder(service.settings.text_encoder_dir / "mine.safetensors", 768)
    service.refresh_models()

    def problems(told: str) -> list[str]:
        text = f"x\nSteps: 2, Seed: 1, Size: 64x64, Model: bare, Text encoder: {told}"
        return actions.fill(service, "txt2img", text, shown("txt2img"))[1]

    (told,) = problems("gone.safetensors")
    assert told.endswith("text encoder gone.safetensors; put it into models/text_encoder/ and choose it in the settings")
    service.set_preferences({"text_encoder_clip_l": "mine"})
    (told,) = problems("gone.safetensors")
    assert "gone.safetensors; mine.safetensors is used" in told
    assert problems("mine.safetensors") == problems("mine") == []


def test_fill_finds_the_checkpoint_of_hires_fix_or_says_that_it_is_missing(service: Service) -> None:
    text = "a fox\nSteps: 5, Sampler: Euler, Denoising strength: 0.4, Hires upscale: 1.5, Hires checkpoint: {}, Hires upscaler: Lanczos"
    updates, problems = actions.fill(service, "txt2img", text.format("large [0123456789]"), shown("txt2img"))
    assert (updates["hires.enabled"], updates["hires.checkpoint"], updates["hires.scale"]) == (True, "large.safetensors", 1.5)
    assert (updates["hires.denoising_strength"], updates["hires.upscaler"], problems) == (0.4, "Lanczos", [])
    updates, problems = actions.fill(service, "txt2img", text.format("gone"), shown("txt2img"))
    assert "hires.checkpoint" not in updates
    assert "keeps the checkpoint of the first pass" in problems[0]


def test_fill_finds_the_refiner_or_switches_it_off(service: Service) -> None:
    text = "a fox\nSteps: 5, Sampler: Euler, Seed: 1, Refiner: {}, Refiner switch at: 0.6"
    updates, problems = actions.fill(service, "img2img", text.format("large [0123456789]"), shown("img2img"))
    assert (updates["refiner.enabled"], updates["refiner.checkpoint"], updates["refiner.switch_at"]) == (True, "large.safetensors", 0.6)
    assert problems == []
    now = shown("img2img") | {"refiner.enabled": True, "refiner.checkpoint": "large.safetensors"}
    updates, problems = actions.fill(service, "img2img", text.format("gone"), now)
    assert (updates["refiner.enabled"], updates["refiner.checkpoint"]) == (False, "None")
    assert problems[0].endswith("the refiner is switched off")


def test_a_refiner_without_a_checkpoint_is_refused_at_once(service: Service) -> None:
    (told,) = actions.generate(service, "txt2img", {}, shown("txt2img") | {"refiner.enabled": True})
    assert told == "no checkpoint is chosen for the refiner: choose one, or switch the refiner off"


def test_a_finished_picture_is_made_larger_with_what_the_tab_shows_and_its_own_seed(service: Service) -> None:
    sent = {
        "client": "c",
        "text": "a fox\nSteps: 5, Sampler: Euler, Seed: 77, Size: 64x64",
        "image": picture(service),
        "width": 64,
        "height": 64,
    }
    values = shown("txt2img", prompt="a finer fox", seed="-1", batch_size=4) | {"hires.steps": 9, "hires.upscaler": "Lanczos"}
    assert actions.upscale(service, sent, values) == []
    request = service.jobs("c")[0].request
    assert (request.prompt, request.seed, request.width, request.batch_size) == ("a finer fox", 77, 64, 1)
    assert request.hires == HiresFix(steps=9, upscaler="Lanczos", image=sent["image"])
    assert len(actions.upscale(service, {**sent, "image": "0" * 64}, values)) == 1


@pytest.mark.parametrize(
    ("without", "kept"),
    [
        (["Seed"], {"seed", "rng"}),  # the noise source is the seed's
        (["Size"], {"width", "height"}),
        (["Prompt", "Negative prompt"], {"prompt", "negative_prompt"}),
        (["Sampler"], {"sampler"}),
        (["Clip skip"], {"clip_skip"}),
    ],
)
def test_what_is_not_ticked_stays_as_the_tab_shows_it(service: Service, without: list[str], kept: set[str]) -> None:
    text = "a fox\nNegative prompt: blurry\nSteps: 5, Sampler: Heun, Seed: 7, Size: 96x64, Clip skip: 2"
    before = shown("txt2img", clip_skip=3)
    everything, _ = actions.fill(service, "txt2img", text, before)
    some, _ = actions.fill(service, "txt2img", text, before, without)
    assert set(everything) - set(some) == kept
    assert some.items() <= everything.items()
