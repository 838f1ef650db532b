"""webui/service/picture_facts.py."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.service.picture_facts import facts_of, spaced

A1111 = "a fox <lora:ink:1> <lyco:pen:0.5>\nNegative prompt: blur\nSteps: 9, Sampler: DPM++ 2M Karras, Seed: 4, Size: 8x8, Model: v1-5"


def test_texts_of_other_programs_are_understood() -> None:
    facts = facts_of(A1111, "{}", "0001.png")
    assert (facts.checkpoint, facts.sampler, facts.loras, facts.recipe) == ("v1-5", "DPM++ 2M", ("ink", "pen"), "")
    assert facts.rest.split() == ["v1-5", "DPM++", "2M", "4", "0001.png"]


def test_the_request_tells_what_the_text_does_not() -> None:
    facts = facts_of("a fox", json.dumps({"checkpoint": "people/beta.safetensors", "sampler": "k_euler_a"}), "x.png")
    assert (facts.checkpoint, facts.sampler) == ("people/beta", "Euler a")


def test_a_sheet_has_neither_recipe_nor_sources() -> None:
    request = json.dumps({"init": {"image": "ab" * 32}})
    assert facts_of("a fox", request, "x.png").sources == (("img2img", "ab" * 32),)
    sheet = facts_of("a fox", request, "x.png", sheet=True)
    assert (sheet.recipe, sheet.sources) == ("", ())


@pytest.mark.parametrize(("text", "written"), [("红猫cat", " 红  猫 cat"), ("ｆｏｘ\0", "fox "), ("a\ud800", "a?"), ("안녕", "안녕")])
def test_characters_without_spaces_between_words_stand_alone(text: str, written: str) -> None:
    assert spaced(text) == written


@given(infotext=st.text(), request=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_and_no_request_is_an_error(infotext: str, request: str) -> None:
    facts = facts_of(infotext, request, "x.png")
    "".join((facts.prompt, facts.negative, facts.rest)).encode("utf-8")


@given(
    st.fixed_dictionaries(
        {"init": st.none() | st.integers() | st.dictionaries(st.sampled_from(["image", "inpaint"]), st.text() | st.integers())},
        optional={"images": st.none() | st.lists(st.text()), "hires": st.text() | st.dictionaries(st.just("image"), st.text())},
    )
)
def test_a_request_of_any_shape_names_no_sources_but_hashes(request_data: dict[str, object]) -> None:
    assert facts_of("", json.dumps(request_data), "x.png").sources == ()
