"""Short runs side by side are the runs that each would be alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.engine.xray.conftest import REQUEST, Alone
from webui.core.event import Progress
from webui.core.xray import WordRanking
from webui.engine.xray import words
from webui.engine.xray.panels import webp

CALM = replace(REQUEST, cfg_scale=1.5)  # a random network with much guidance amplifies the last bits of a batch's arithmetic
LONG = f"a red circle, blue, {'sky ' * 80}AND green star, small"


@pytest.mark.parametrize(
    "request_",
    [CALM, replace(CALM, prompt=LONG), replace(CALM, sampler="Euler a", negative_prompt="word " * 80)],
    ids=["one chunk", "two parts of several chunks", "long negative prompt"],
)
def test_each_picture_is_that_of_its_own_prompt(lab, request_, monkeypatch):
    monkeypatch.setattr(words, "webp", partial(webp, lossless=True))
    seen = lab.study(request_, WordRanking(by="parts", steps=3))
    rows = {row["piece"]: row for row in seen.json("words.json")["rows"]}
    assert len(rows) >= 2
    rows = {piece: row for piece, row in rows.items() if "sky" not in piece}  # without it there are fewer chunks
    for told in (*rows.values(), {"prompt": request_.prompt, "picture": "words-000.webp"}):
        alone = np.asarray(lab.plain(replace(request_, prompt=told["prompt"], steps=3))).astype(int)
        assert np.abs(np.asarray(seen.image(told["picture"])).astype(int) - alone).max() <= 2, told["prompt"]  # grey levels
    whole, without = (
        np.asarray(lab.plain(replace(request_, prompt=prompt, steps=3))).astype(float)
        for prompt in (request_.prompt, rows["a red circle"]["prompt"])
    )
    by_hand = np.linalg.norm(whole - without) / np.linalg.norm(whole)
    assert rows["a red circle"]["pixels"] == pytest.approx(by_hand, rel=0.02)


def test_the_rows_are_in_order_and_all_there(lab):
    seen = lab.study(REQUEST, WordRanking(by="words", steps=2)).json("words.json")
    assert sorted(row["piece"] for row in seen["rows"]) == ["a", "blue", "circle", "red"]
    changes = [row["pixels"] for row in seen["rows"]]
    assert changes == sorted(changes, reverse=True)
    assert all(row["latents"] > 0 for row in seen["rows"])
    assert 0 < seen["seconds"] < 10


def test_pictures_are_made_in_batches_and_progress_counts_these(lab, monkeypatch):
    monkeypatch.setattr(words, "AT_ONCE", 2)
    events = lab.study(REQUEST, WordRanking(by="words", steps=2)).events
    assert {(event.batch, event.batches) for event in events if isinstance(event, Progress)} == {(1, 3), (2, 3), (3, 3)}


def test_an_interrupted_ranking_tells_the_batches_that_are_done(lab, monkeypatch):
    monkeypatch.setattr(words, "AT_ONCE", 2)
    seen = lab.study(REQUEST, WordRanking(by="words", steps=2), Alone(interrupt_after=4))
    assert 0 < len(seen.json("words.json")["rows"]) < 4
    assert seen.events[-1].interrupted
