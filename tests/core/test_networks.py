"""Tags of extra networks: A1111's rule (a regular expression there), in linear time."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.errors import BadRequest
from webui.core.networks import LoraStrengths, NetworkUse, extract_networks, hypernetwork_strength, lora_strengths

RULE = re.compile(r"<(\w+):([^>]+)>")


def only_use(prompt):
    (use,) = extract_networks(prompt)[1]
    return use


@pytest.mark.parametrize(
    ("prompt", "text", "uses"),
    [
        ("", "", []),
        ("a cat", "a cat", []),
        ("a cat with fur <lora:fur:0.8>", "a cat with fur ", [NetworkUse("lora", "fur", ("0.8",))]),
        ("<lora:a:1>, x <lora:b>", ", x ", [NetworkUse("lora", "a", ("1",)), NetworkUse("lora", "b")]),
        ("<lora:a:0.5:0.7:8>", "", [NetworkUse("lora", "a", ("0.5", "0.7", "8"))]),
        ("<lora:a:te=0.5:unet=0.7:dyn=8>", "", [NetworkUse("lora", "a", (), {"te": "0.5", "unet": "0.7", "dyn": "8"})]),
        ("<lyco:a:1>", "", [NetworkUse("lora", "a", ("1",))]),
        ("<hypernet:a:1>", "", [NetworkUse("hypernet", "a", ("1",))]),
        ("<LoRA:Über File (v2.1):1>", "", [NetworkUse("lora", "Über File (v2.1)", ("1",))]),
        ("<lora:v=2:1>", "", [NetworkUse("lora", "v=2", ("1",))]),
        ("a <thing:b:c> d", "a  d", [NetworkUse("thing", "b", ("c",))]),
        ("<lora:a\nb:1>", "", [NetworkUse("lora", "a\nb", ("1",))]),
        ("<lora:a<b:1>", "", [NetworkUse("lora", "a<b", ("1",))]),
        ("a < b > c <3 <lora> <lora:> <:a> <lo ra:a> <lora:a", "a < b > c <3 <lora> <lora:> <:a> <lo ra:a> <lora:a", []),
        ("<<lora:a:1>>", "<>", [NetworkUse("lora", "a", ("1",))]),
    ],
)
def test_tags_are_taken_out_and_the_rest_stays(prompt, text, uses):
    assert extract_networks(prompt) == (text, tuple(uses))


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("<<<>>>::=ab 1_é\n"), max_size=40))
def test_the_rule_is_the_fields(prompt):
    text, uses = extract_networks(prompt)
    assert text == RULE.sub("", prompt)
    assert len(uses) == len(RULE.findall(prompt))


@pytest.mark.parametrize(
    ("tag", "strengths"),
    [
        ("<lora:a>", LoraStrengths(1.0, 1.0)),
        ("<lora:a:0.8>", LoraStrengths(0.8, 0.8)),
        ("<lora:a:0.8:0.5>", LoraStrengths(0.8, 0.5)),
        ("<lora:a:0.8:0.5:16>", LoraStrengths(0.8, 0.5, 16)),
        ("<lora:a:-1>", LoraStrengths(-1.0, -1.0)),
        ("<lora:a:te=0.5>", LoraStrengths(0.5, 0.5)),
        ("<lora:a:unet=0.5>", LoraStrengths(1.0, 0.5)),
        ("<lora:a:0.8:te=0.5:unet=0.2:dyn=4>", LoraStrengths(0.5, 0.2, 4)),
        ("<lora:a:0>", LoraStrengths(0.0, 0.0)),
    ],
)
def test_numbers_mean_what_they_mean_in_the_field(tag, strengths):
    assert lora_strengths(only_use(tag)) == strengths


@pytest.mark.parametrize(
    "tag", ["<lora:a:x>", "<lora:a:>", "<lora:a:te=x>", "<lora:a:nan>", "<lora:a:inf>", "<lora:a:1e99>", "<lora:a:1:x>"]
)
def test_what_is_no_strength_is_refused_with_the_tag(tag):
    with pytest.raises(BadRequest, match="is no strength; write a number") as caught:
        lora_strengths(only_use(tag))
    assert tag in str(caught.value)


@pytest.mark.parametrize(
    "tag", ["<lora:a:dyn=0>", "<lora:a:dyn=-1>", "<lora:a:1:1:2.5>", "<lora:a:dyn=²>", "<lora:a:dyn=" + "9" * 5000 + ">"]
)
def test_what_is_no_rank_is_refused(tag):
    with pytest.raises(BadRequest, match="is no rank"):
        lora_strengths(only_use(tag))


@pytest.mark.parametrize("prompt", ["<lora: >", "<lora::1>", "<lyco: :1>", "<hypernet::1>"])
def test_tags_without_a_name_are_refused(prompt):
    with pytest.raises(BadRequest, match="names nothing; write"):
        extract_networks(prompt)


def test_a_hypernetworks_strength_is_its_first_number():
    assert hypernetwork_strength(only_use("<hypernet:a>")) == 1.0
    assert hypernetwork_strength(only_use("<hypernet:a:0.3>")) == 0.3
    with pytest.raises(BadRequest, match="is no strength"):
        hypernetwork_strength(only_use("<hypernet:a:much>"))


@pytest.mark.parametrize("piece", ["<", "<a", "<a:", "<a:b", "<a:>", "<lora:a:1>", "a:", ">", "<a:b:c=", "<" + "a" * 999])
def test_a_hundred_kilobytes_are_parsed_within_a_second(piece):
    with at_most(1):
        extract_networks(piece * (100_000 // len(piece)))
