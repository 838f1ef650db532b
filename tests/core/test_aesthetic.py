import math
from dataclasses import replace

import pytest

from webui.core.aesthetic import Aesthetic, aesthetic_items, read_aesthetic
from webui.core.errors import BadRequest
from webui.core.key_values import Values, items, joined

FULL = Aesthetic(
    embedding="laion_7plus",
    weight=0.35,
    steps=12,
    learning_rate=1e-05,
    slerp=True,
    text='stormy, "wild": seas',
    text_negative=True,
    slerp_angle=0.25,
)


@pytest.mark.parametrize("aesthetic", [Aesthetic(embedding="x"), FULL])
def test_infotext_gives_back_what_was_written(aesthetic):
    aesthetic.validate()
    values = Values(dict(items(joined(aesthetic_items(aesthetic)))))
    assert read_aesthetic(values) == aesthetic
    assert values.left() == values.problems == []


def test_the_extensions_own_line_is_read():
    line = (
        "Steps: 20, Aesthetic LR: 0.0001, Aesthetic weight: 0.9, Aesthetic steps: 5, Aesthetic embedding: sac_8plus, "
        "Aesthetic slerp: False, Aesthetic text: , Aesthetic text negative: False, Aesthetic slerp angle: 0.1"
    )
    values = Values(dict(items(line)))
    assert read_aesthetic(values) == Aesthetic(embedding="sac_8plus")
    assert values.left() == ["Steps"]


@pytest.mark.parametrize("line", ["", "Aesthetic embedding: None, Aesthetic steps: 5"])
def test_texts_without_an_embedding_have_none(line):
    assert read_aesthetic(Values(dict(items(line)))) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"embedding": ""}, "choose one of models/aesthetic_embeddings"),
        ({"weight": 1.1}, r"Aesthetic weight 1\.1 is out of range: use 0 to 1"),
        ({"weight": math.nan}, "out of range"),
        ({"steps": -1}, "Aesthetic steps -1 is out of range: use 0 to 100"),
        ({"steps": 2.5}, "not a whole number"),
        ({"steps": True}, "out of range"),
        ({"learning_rate": math.inf}, "Aesthetic LR inf"),
        ({"slerp_angle": "1"}, "Aesthetic slerp angle"),
        ({"text": "x" * 10_001}, "shorten it"),
    ],
)
def test_values_beyond_the_limits_are_refused_by_name(change, sentence):
    with pytest.raises(BadRequest, match=sentence):
        replace(FULL, **change).validate()


@pytest.mark.parametrize("name", ["weight", "steps", "learning_rate"])
def test_a_nought_leaves_pictures_as_they_are(name):
    assert not FULL.changes_nothing
    assert replace(FULL, **{name: 0}).changes_nothing
