"""The counter counts what the engine encodes: the oracles are the engine's own tokenizer and its chunks."""

import pytest

from tests.engine.test_tokenizer import generated_texts
from webui.core.errors import BadRequest
from webui.engine.tokenizers import load_tokenizer
from webui.service.token_count import Count, TokenCounter


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter(lambda: {"big-hands": 8, "hands": 2})


def cats(count: int) -> str:
    return " ".join(["cat"] * count)


def test_it_has_the_engines_tokens_on_1000_texts(counter: TokenCounter) -> None:
    theirs = load_tokenizer()
    texts = generated_texts(1000, seed=5)
    assert [text for text in texts if counter._ids(text) != theirs(text, add_special_tokens=False, verbose=False).input_ids] == []


@pytest.mark.parametrize(
    ("prompt", "used", "room"),
    [
        ("", 0, 75),
        ("a red circle", 3, 75),
        ("a (red:1.3) [circle]", 3, 75),
        (cats(75), 75, 75),
        (cats(76), 76, 150),
        ("cat BREAK dog bird", 77, 150),
        ("cat <lora:ink:0.5> dog", 2, 75),
        ("cat # not a word of this\n", 1, 75),
        ("[cat:a very long dog:0.5]", 4, 75),
        ("cat AND two white dogs", 3, 75),
        ("hands up", 3, 75),
        ("big-hands", 8, 75),
    ],
)
def test_a_prompt_takes_the_places_of_its_longest_text(counter: TokenCounter, prompt: str, used: int, room: int) -> None:
    assert counter.count(prompt, 20) == Count(used, room)


def test_a_comma_near_the_end_makes_the_chunk_shorter_as_in_the_engine(counter: TokenCounter) -> None:
    assert counter.count(cats(59) + ", " + cats(20), 20) == Count(75 + 20, 150)


def test_how_far_a_comma_is_looked_for_can_be_told(counter: TokenCounter) -> None:
    prompt = " ".join(["cat"] * 40 + [","] + ["cat"] * 35)
    assert counter.count(prompt, 20) == Count(76, 150)
    assert counter.count(prompt, 20, backtrack=35) == Count(75 + 35, 150)


def test_what_generate_would_refuse_is_refused(counter: TokenCounter) -> None:
    with pytest.raises(BadRequest, match="64 brackets"):
        counter.count("(" * 100 + "cat", 20)


def test_half_a_surrogate_pair_is_counted_as_a_mark(counter: TokenCounter) -> None:
    assert counter.count("\ud800 cat", 20) == counter.count("? cat", 20)
