"""The X-ray on the miniature, against what the judge knows: where things are, and what the prompt's words are worth."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden.test_miniature_pictures import MINIATURE, REQUEST, Alone
from tests.judge import judge
from webui.core.event import Pictures, Record
from webui.core.xray import Recording, WordRanking, XrayRequest
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.study import NO_STUDY
from webui.engine.xray.run import run_xray
from webui.training.world import COLOURS


@pytest.fixture(scope="module")
def study():
    """request, study -> records by name."""
    model = load_checkpoint(MINIATURE, torch.float32, torch.device("cpu"))

    def make(request, control, looking):
        return generate(request, control, load=lambda asked: model, open_input=None, study=looking)

    def run(request, asked):
        events = run_xray(XrayRequest.of(request, asked), Alone(), make=make, load=None, open_input=None)
        return {event.name: event.data for event in events if isinstance(event, Record)}

    run.make = make
    return run


def share_of(picture):
    """How much of each latent's pixels have the colour of the thing that the judge sees: (16, 16)."""
    seen = judge(picture)
    near = np.linalg.norm(np.asarray(picture, float) - np.array(COLOURS[seen.colour]), axis=2) < 90
    return seen, np.asarray(Image.fromarray(near.astype(np.uint8) * 255).resize((16, 16), Image.Resampling.BOX)) / 255


@pytest.mark.parametrize(
    ("prompt", "times"),
    [
        ("a red circle on a blue background", {"circle": 1.2, "red": 1.5}),
        ("a small green star at the left, yellow background", {"star": 2, "green": 2}),
        ("a large yellow heart on the right, night sky", {"heart": 2, "yellow": 3}),
    ],
)
def test_a_thing_s_words_are_attended_to_where_the_judge_sees_the_thing(study, prompt, times):
    """The mean attention of all steps and layers where the thing is, as a multiple of that where it is not."""
    records = study(replace(REQUEST, prompt=prompt), Recording())
    seen, share = share_of(Image.open(io.BytesIO(records["picture.png"])))
    assert (seen.object, seen.colour) == tuple(times)
    words = json.loads(records["whole.json"])["texts"][0]["words"]
    told = json.loads(records["maps-all.json"])["layers"][0]
    maps = np.frombuffer(records["maps-all.bin"], np.uint8).reshape(told["shape"]).astype(float)
    for word, multiple in times.items():
        (tokens,) = [each["tokens"] for each in words if each["text"] == word]
        heat = maps[tokens].mean(axis=0)
        within, without = (heat * share).sum() / share.sum(), (heat * (1 - share)).sum() / (1 - share).sum()
        assert within > multiple * without, word


def test_a_job_of_several_pictures_is_the_same_bit_for_bit_while_its_first_is_recorded(study):
    request = replace(REQUEST, steps=4, batch_size=2, batch_count=2)
    plain = [picture for event in study.make(request, Alone(), NO_STUDY) if isinstance(event, Pictures) for picture in event.pictures]
    events = list(run_xray(XrayRequest(base=request, study=Recording(first=True)), Alone(), make=study.make, load=None, open_input=None))
    made = [picture for event in events if isinstance(event, Pictures) for picture in event.pictures]
    assert [(picture.image.tobytes(), picture.infotext) for picture in made] == [(each.image.tobytes(), each.infotext) for each in plain]
    records = {event.name: event.data for event in events if isinstance(event, Record)}
    assert Image.open(io.BytesIO(records["picture.png"])).tobytes() == plain[0].image.tobytes()
    assert len([name for name in records if name.startswith("step-")]) == 4


def test_the_words_that_matter_most_are_those_of_things_and_colours(study):
    rows = json.loads(study(REQUEST, WordRanking(by="words", steps=6))["words.json"])["rows"]
    assert {row["piece"] for row in rows[:3]} == {"red", "circle", "blue"}


def test_praise_matters_less_than_what_is_shown(study):
    prompt = "masterpiece, a large yellow heart on the right, night sky, high quality"
    rows = json.loads(study(replace(REQUEST, prompt=prompt), WordRanking(steps=6))["words.json"])["rows"]
    assert [row["piece"] for row in rows[:2]] == ["a large yellow heart on the right", "night sky"]
    assert rows[1]["pixels"] > 5 * rows[2]["pixels"]
