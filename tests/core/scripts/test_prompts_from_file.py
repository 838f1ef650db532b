from dataclasses import replace
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest
from webui.core.scripts.prompts_from_file import OPTIONS, parse_line
from webui.core.scripts.table import find_script

BASE = GenerationRequest(prompt="sharp", seed=5, variation_seed=1, batch_count=2)


def made(text: str, base: GenerationRequest = BASE, **arguments: Any) -> list[GenerationRequest]:
    plan = find_script("Prompts from file or textbox").plan(base, {"prompt_txt": text} | arguments, lambda: 77)
    assert plan.sheet is None
    return [step.request for step in plan.steps]


def test_each_line_is_a_prompt_before_the_tabs_own() -> None:
    assert [request.prompt for request in made("a cat\n\n  a dog \n")] == ["a cat sharp", "a dog sharp"]
    assert [request.prompt for request in made("a cat", prompt_position="end")] == ["sharp a cat"]


def test_the_mark_that_windows_puts_before_a_file_is_no_part_of_the_first_prompt() -> None:
    assert [request.prompt for request in made("\ufeffa cat\na dog")] == ["a cat sharp", "a dog sharp"]


def test_a_line_may_set_anything() -> None:
    line = (
        '--prompt "a cat, (red:1.2)" --negative_prompt blur and text --steps 30 --cfg_scale 4.5 --seed 9 --width 128 --height 64 '
        "--sampler_name 'DPM++ 2M' --batch_size 3 --n_iter 1 --subseed 4 --subseed_strength 0.5 --seed_resize_from_w -1 --sd_model big"
    )
    (request,) = made(line, replace(BASE, prompt=""))
    assert request == replace(
        BASE,
        prompt="a cat, (red:1.2)",
        negative_prompt="blur and text",
        steps=30,
        cfg_scale=4.5,
        seed=9,
        width=128,
        height=64,
        sampler="DPM++ 2M",
        batch_size=3,
        batch_count=1,
        variation_seed=4,
        variation_strength=0.5,
        seed_resize_width=0,
        checkpoint="big",
    )


def test_the_fields_options_are_all_known() -> None:
    assert len(OPTIONS) == 24
    assert parse_line("--outpath_samples /anywhere --do_not_save_grid true --restore_faces false") == {}


def test_seeds_count_on_from_line_to_line_or_are_one_or_stay_open() -> None:
    open_seed = replace(BASE, seed=-1)
    assert [request.seed for request in made("a\nb\nc", open_seed)] == [-1, -1, -1]
    assert [request.seed for request in made("a\nb\nc", open_seed, checkbox_iterate_batch=True)] == [77, 77, 77]
    assert [request.seed for request in made("a\nb\nc", open_seed, checkbox_iterate=True)] == [77, 79, 81]


def test_a_line_can_bring_styles_and_tiling() -> None:
    assert parse_line('--prompt x --styles "photo, ink wash" --tiling True') == {
        "prompt": "x",
        "styles": ("photo", "ink wash"),
        "tiling": "Both",
    }
    assert parse_line("--tiling false") == {"tiling": "Off"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "0 lines"),
        ("fine\n--step 30", "line 2: '--step' is no option"),
        ('--prompt "open', "line 1: .*quotation marks"),
        ("--steps", "no value"),
        ("--steps many", "not a whole number"),
        ("--restore_faces true", "not supported"),
        ("--tiling sideways", "neither true nor false"),
        ("--sampler_index 99", "not known"),
        ("\n".join("a" * 1001), "1 to 1000"),
    ],
)
def test_lines_that_cannot_be_carried_out_are_told(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        made(text)
