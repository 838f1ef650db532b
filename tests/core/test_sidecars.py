"""Sidecars: what is read out of them, and what is written into them (damaged ones: tests/test_hostile.py)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clock import at_most
from webui.core.errors import BadRequest
from webui.core.model_listing import Companion
from webui.core.sidecars import bounded, changed_sidecar, plain_text, read_sidecars


def beside(folder: Path, **contents: Any) -> list[Companion]:
    """Sidecars of the model "m"; keys: "json", "civitai_info", "txt"."""
    made = []
    for key, content in contents.items():
        ending = "." + key.replace("_", ".")
        path = folder / f"m{ending}"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        made.append(Companion(ending, path, path.stat().st_mtime, path.stat().st_size))
    return made


def test_a1111s_json_counts_more_than_civitais_and_both_more_than_text(tmp_path: Path) -> None:
    a1111 = {"activation text": "mine", "preferred weight": 0.7, "negative text": "ugly", "sd version": "SD1", "notes": "n"}
    civitai = {"trainedWords": ["one, two", "three"], "baseModel": "SDXL 1.0", "description": "<p>A<br>b</p>", "model": {"name": "Nice"}}
    found = read_sidecars(beside(tmp_path, json=a1111, civitai_info=civitai, txt="plain"))
    assert (found.triggers, found.weight, found.negative, found.base, found.notes) == ("mine", 0.7, "ugly", "SD1", "n")
    assert (found.title, found.description) == ("Nice", "A\nb")
    alone = read_sidecars(beside(tmp_path, civitai_info={**civitai, "description": None}, txt="plain"))
    assert (alone.triggers, alone.base, alone.description) == ("one, two, three", "SDXL 1.0", "plain")
    assert read_sidecars(beside(tmp_path, description_txt="d", txt="t")).description == "d"


@pytest.mark.parametrize("weight", [0, None, "", "x", [], True, 1e308, "-inf", float("nan"), 11])
def test_a_weight_that_is_none_counts_as_none(tmp_path: Path, weight: Any) -> None:
    assert read_sidecars(beside(tmp_path, json={"preferred weight": weight})).weight == 0


def test_changes_keep_what_they_do_not_name(tmp_path: Path) -> None:
    (old,) = beside(tmp_path, json={"description": "old", "preferred weight": 0.5, "unknown": {"deep": [1]}, "sd version": "SDXL"})
    new = json.loads(changed_sidecar(old, {"description": "new é", "weight": 0}))
    assert new == {"description": "new é", "preferred weight": 0, "unknown": {"deep": [1]}, "sd version": "SDXL"}
    assert json.loads(changed_sidecar(None, {"triggers": "a, b"})) == {"activation text": "a, b"}


@pytest.mark.parametrize(
    "changes", [{"x": "y"}, {"weight": "much"}, {"weight": float("nan")}, {"weight": 11}, {"notes": 5}, {"notes": "x" * 20_001}]
)
def test_wrong_changes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        changed_sidecar(None, changes)


def test_a_damaged_sidecar_is_not_overwritten(tmp_path: Path) -> None:
    (old,) = beside(tmp_path, json="{nope")
    with pytest.raises(BadRequest, match=r"m\.json is damaged, so nothing was written"):
        changed_sidecar(old, {"notes": "x"})


def test_html_becomes_text_in_linear_time() -> None:
    assert (
        plain_text("<h1>T</h1><p>a &lt; b &amp; c</p><script>alert(1)</script><ul><li>x</li></ul> 1 < 2") == "T\na < b & c\n\n- x\n 1 < 2"
    )
    for bomb in ("<script>", "<", "<a ", "<!--", "&lt;"):
        with at_most(1):
            plain_text(bomb * 200_000)


def test_texts_are_cut_and_cleaned() -> None:
    assert bounded("x" * 50, 10) == "x" * 9 + "…"
    assert bounded("a\ud800b\u202ec\x00d\n") == "a?bcd"
    assert bounded(["x"]) == bounded(None) == ""
