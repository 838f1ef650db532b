"""A recipe or an order says what is wrong with it before any file is opened."""

from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.model_orders import MergeRecipe, SaveOrder


@pytest.mark.parametrize(
    "fields",
    [
        {"secondary": "b"},
        {"method": "No interpolation"},
        {"secondary": "b", "tertiary": "c", "method": "Add difference", "multiplier": 1.0},
        {"secondary": "b", "name": "näme (v2) 0.5", "precision": "bf16", "discard_weights": "^model_ema\\."},
    ],
)
def test_good_recipes_pass(fields: dict[str, Any]) -> None:
    MergeRecipe(primary="a", **fields).validate()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Weighted sum needs a checkpoint B; choose one"),
        ({"primary": "", "method": "No interpolation"}, "No interpolation needs a checkpoint A"),
        ({"secondary": "b", "method": "Add difference"}, "Add difference needs a checkpoint C"),
        ({"secondary": "b", "method": "Sum"}, "method is 'Sum'; choose one of: No interpolation; Weighted sum; Add difference"),
        ({"secondary": "b", "precision": "fp8"}, "precision is 'fp8'; choose one of: fp16; bf16; fp32"),
        ({"secondary": "b", "config_source": "D"}, "config source is 'D'"),
        ({"secondary": "b", "multiplier": 1.5}, "multiplier is 1.5; it goes from 0 to 1"),
        ({"secondary": "b", "multiplier": float("nan")}, "multiplier is nan"),
        ({"secondary": "b", "name": "../a"}, "cannot be the name of a file"),
        ({"secondary": "b", "name": ".hidden"}, "cannot be the name of a file"),
        ({"secondary": "b", "name": "a\nb"}, "cannot be the name of a file"),
        ({"secondary": "b", "name": "ä" * 101}, "name is too long"),
        ({"secondary": "b", "discard_weights": "a" * 501}, "501 characters; use at most 500"),
    ],
)
def test_bad_recipes_are_refused_with_what_to_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        MergeRecipe(**{"primary": "a", **fields}).validate()


def test_only_the_checkpoints_that_the_method_uses_count() -> None:
    recipe = MergeRecipe(primary="a", secondary="b", tertiary="c", method="No interpolation")
    assert recipe.checkpoints == ("a",)


def test_what_a_later_version_stored_is_read() -> None:
    assert MergeRecipe.from_json({"primary": "a", "secondary": "b", "later": 1}) == MergeRecipe(primary="a", secondary="b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"checkpoint": ""}, "no checkpoint to save; choose one"),
        ({"name": ""}, "no name; type one"),
        ({"name": "a/b"}, "cannot be the name of a file"),
        ({"precision": "fp8"}, "number type is 'fp8'; choose one of: fp16; bf16; fp32"),
        ({"layout": "ckpt"}, "layout is 'ckpt'; choose one of: single file; diffusers folder"),
    ],
)
def test_bad_orders_to_save_are_refused_with_what_to_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        SaveOrder(**{"checkpoint": "a", "name": "b", **fields}).validate()


def test_only_files_have_an_ending() -> None:
    assert SaveOrder(checkpoint="a", name="b").file_name == "b.safetensors"
    assert SaveOrder(checkpoint="a", name="b", layout="diffusers folder").file_name == "b"
