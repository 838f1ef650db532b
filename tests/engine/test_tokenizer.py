"""The tokenizer that ships with Easel gives CLIP's own token ids.

The oracle is the `instant-clip-tokenizer` package. Two things are left out of the comparison because there it departs
from OpenAI's tokenizer on purpose: it never yields the two special tokens for text that spells them, and it does not
compose letters and accents (NFC). Both are checked by themselves below.
"""

import random

import instant_clip_tokenizer
import pytest

from webui.engine.tokenizers import PAD_WITH_ZERO, load_tokenizer

TEXT = """a photo of an astronaut riding horse masterpiece trending-on-artstation 8k 1920s 42 3.14 7 100% $5 R&B &amp;
don't we're I'LL they'd it's I'm you've O'Brien 'tis ''s 's's _'s "quoted" (cat) ((masterpiece:1.2)) [blurry] {x|y}
<lora:x:0.5> __init__ a_b --- ... !? ~~ ### \\( \\) @artist #tag ; : / * + = ^ ` ´ ¿qué? ¡olé! “quoted” ‘it’s’ … — « »
Café naïve ÜBER straße ẞ Å Ελλάδα ΣΊΣΥΦΟΣ ΟΣ'ΟΣ ΑΣ-ΒΣ Привет мир ЁЖ 日本語 東京 猫 カタカナ العربية ١٢٣ שלום हिन्दी ไทย 한국어
İstanbul ﬁne ½ x² Ⅷ ａｂｃ １２ ﷺ ǅ 😀 👩‍👩‍👧 🇩🇪 🐈‍⬛ ❤️ ✨🎨 ™ € ∑ → \u200b \ufeff \xad"""
WORDS = TEXT.split()
GAPS = [" "] * 8 + ["  ", "\t", "\n", "\r\n", "\u3000", "\xa0", "\u2028", ",", ", ", ". ", ""]


def generated_texts(count: int, seed: int) -> list[str]:
    """Texts of up to 20 words of many scripts, joined by all sorts of gaps, and some of plain random letters."""
    rng = random.Random(seed)
    texts = ["", " ", *WORDS]
    while len(texts) < count:
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 20))]
        letters = "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 40)))
        texts += ["".join(word + rng.choice(GAPS) for word in words), letters]
    return texts[:count]


def ids(text: str) -> list[int]:
    return load_tokenizer()(text, add_special_tokens=False, verbose=False).input_ids


def test_token_ids_equal_those_of_instant_clip_tokenizer_on_1000_texts() -> None:
    ours, theirs = load_tokenizer(), instant_clip_tokenizer.Tokenizer()
    texts = generated_texts(1000, seed=5)
    assert len(set(texts)) > 950
    different = [t for t in texts if ours(t, add_special_tokens=False, verbose=False).input_ids != list(theirs.encode(t))]
    assert different == []


def test_spelled_out_special_tokens_are_special_as_in_the_original() -> None:
    assert ids("<|startoftext|>cat<|endoftext|>") == [49406, 2368, 49407]


def test_an_accent_by_itself_is_joined_to_its_letter_as_in_the_original() -> None:
    assert ids("cafe\u0301") == ids("café")


@pytest.mark.parametrize(("pad_token", "pad_id"), [(None, 49407), (PAD_WITH_ZERO, 0)])
def test_padding_is_the_familys(pad_token: str | None, pad_id: int) -> None:
    tokenizer = load_tokenizer(pad_token) if pad_token else load_tokenizer()
    row = tokenizer("a cat", padding="max_length", truncation=True).input_ids
    assert row == [49406, 320, 2368, 49407] + [pad_id] * 73
    assert len(tokenizer) == 49408
