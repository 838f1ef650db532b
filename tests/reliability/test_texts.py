"""Rows 9-12 and 35 of docs/reliability.md: texts of strangers cost little and break nothing."""

import base64
import csv
import io
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.clock import at_most, processor_time
from tests.reliability.live import PATIENCE, SMALL, Live
from tests.service.conftest import until
from webui.core import infotext, prompt, prompt_schedule
from webui.core.errors import BadRequest
from webui.core.image_metadata import read_infotext
from webui.core.styles import Style, read_styles

BLOWS = {
    "colons": "a: b, " * 8,
    "quotes": '"\\' * 8,
    "commas": ",,,," * 8,
    "names": "Steps: 1, Sampler: " * 4,
    "lines": "\n" * 20 + "x",
    "spaces": " " * 50,
    "brackets": "(((([[[[" * 4,
    "open quotes": 'Hires: "' * 5,
    "digits": "9" * 50,
    "letters": "x" * 50,
}


def seconds(action: Callable[[], object]) -> float:
    """Of processor time, the better of two."""
    taken = []
    for _ in range(2):
        with processor_time() as spent:
            action()
        taken.append(spent.seconds)
    return min(taken)


@pytest.mark.parametrize("name", BLOWS)
@pytest.mark.parametrize("head", ["", "a cat\nNegative prompt: dog\nSteps: 20, "])
def test_reading_an_infotext_takes_linear_time(name: str, head: str) -> None:
    piece = BLOWS[name]
    small, large = (head + piece * (size // len(piece)) for size in (1_000_000, 4_000_000))
    short, long = seconds(lambda: infotext.read(small)), seconds(lambda: infotext.read(large))
    assert long <= 2
    assert long <= 6 * max(short, 0.02)


# prompts

DEEP = 5000
PROMPTS = [
    *("(" * DEEP, "[" * DEEP, ")" * DEEP, "]" * DEEP, "(" * DEEP + "x" + ")" * DEEP, "[" * DEEP + "x" + "]" * DEEP, "([" * DEEP),
    *("[|", "[|]", "[||||]", "[a|b" * 500, "[a:b:" * 500, "[a:b:0.5" * 500, "[::]", "[:]", "[a::5]", "[:a:]", "[a:b:NaN]", "[a:b:1e999]"),
    *("[a:b:-5]", "[a:b:99999999999999999999]", "(a:1e999)", "(a:nan)", "(a:-inf)", "(a:" + "9" * 5000 + ")", "(a:1.1", "(a:b:c:d)"),
    *("AND", "AND AND AND", "a AND b :nan", "a AND b :1e999", " AND ".join("ab" * 50), "a AND " * 2000, "BREAK " * 5000, "BREAK"),
    *("<lora:", "<lora:>", "<lora::>", "<lora:x:y:z>", "<lora:x:1e999>", "<lora:" * 5000, "<hypernet:x:nan>", "<" * DEEP, "<<lora:a:1>:1>"),
    *("\\" * DEEP, "\\(" * DEEP, "\0" * 100, "\ud800", "\u202e" * 500, "👩‍👩‍👧‍👦" * 2000, "a\u0301" * 5000),
    *("{" * DEEP, "{a|b" * 2000, "{2$$a|b}", "%s%n{0}${jndi:x}"),
    *("__x__" * 200, "__" * DEEP, "# " * DEEP, "x," * 40_000, "x" * 100_000, "x" * 100_001, "<script>alert(1)</script>"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_a_prompt_is_read_or_refused_within_a_second(number: int) -> None:
    def read() -> None:
        for part in prompt_schedule.parse_prompt(PROMPTS[number], 20):
            for each in part.schedule:
                prompt.parse_attention(each.text)

    with at_most(1), suppress(BadRequest):
        read()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_absurd_prompt_is_drawn_or_refused_with_a_sentence(easel: Live) -> None:
    with easel.http(timeout=600) as http:
        for text in PROMPTS:
            for field in ("prompt", "negative_prompt"):
                body = json.dumps(SMALL | {field: text, "save_images": False})
                answer = http.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code in (200, 400, 404, 422), (text[:50], answer.text[:300])
                assert answer.status_code == 200 or answer.json()["detail"]


def test_more_chunks_than_a_prompt_may_have_are_refused_with_their_number(easel: Live) -> None:
    for field in ("prompt", "negative_prompt"):
        answer = easel.draw(**{field: "BREAK " * 5000}, save_images=False)
        assert answer.status_code == 422
        assert " makes 5000 chunks of 75 tokens; at most 500 are taken: shorten it" in answer.json()["detail"]


def test_an_interrupt_does_not_wait_until_a_long_prompt_is_encoded(easel: Live) -> None:
    long = {field: f"{text} BREAK " * 499 + text for field, text in (("prompt", "a cat"), ("negative_prompt", "a dog"))}
    with easel.http() as http, ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(easel.draw, **long, save_images=False)
        until(lambda: http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 1)
        assert http.post("/sdapi/v1/interrupt").json() == {}
        answer = drawn.result()
    assert answer.status_code == 200, answer.text[:500]
    assert answer.json()["images"] == []  # which a step would have made


# bodies

BODIES = [
    *("", "{", "[]", "null", "1", '"x"', "NaN", "Infinity", "[" * 200_000, '{"a":' * 200_000, '{"prompt": "\\ud800"}', "\ufeff{"),
    *("{} {}", "'{}'"),
    *(f'{{"{field}": {value}}}' for field in ("width", "height", "steps", "batch_size", "n_iter", "seed") for value in
      ("-1", "1e99", "NaN", "Infinity", "-Infinity", "9" * 400, "0.5", "[]", '"x"', "true", "1e-300")),
    *(f'{{"{field}": {value}}}' for field in ("cfg_scale", "denoising_strength", "subseed_strength")
      for value in ("NaN", "Infinity", "-1e9", "1e999")),
    '{"width": 4096, "height": 4096, "batch_size": 64, "n_iter": 1000, "steps": 1000, "enable_hr": true, "hr_scale": 4}',
    '{"width": 65536, "height": 65536}', '{"n_iter": 1000000000}', '{"batch_size": 1000000000}', '{"styles": ["x"]}',
    '{"override_settings": {"sd_model_checkpoint": "../../x"}}', '{"script_name": "../../x"}', '{"alwayson_scripts": [[[[]]]]}',
    '{"prompt": ' + json.dumps("x" * 200_000) + "}", '{"sampler_name": ' + json.dumps("x" * 10**6) + "}",
]  # fmt: skip
ABSURD = ("NaN", "Infinity", "1e99", "9999", "65536", "1000000", "[[", '{"a":{"a"', "4096")  # what must not be accepted, but for a seed


def test_absurd_bodies_are_refused_before_anything_is_made(light: Live) -> None:
    assert len(BODIES) >= 102
    made = len(list(light.data_dir.rglob("*.png")))
    before = light.memory()
    with light.http(timeout=PATIENCE) as http:
        for body in BODIES:
            begin = light.processor_time()
            answer = http.post("/sdapi/v1/txt2img", content=body.encode("utf-8", "replace"), headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (body[:100], answer.text[:300])
            if answer.status_code == 200:
                assert '"seed"' in body or not any(sign in body for sign in ABSURD), body[:100]
            else:
                assert answer.json()["detail"], body[:100]
            assert light.processor_time() - begin < 5, body[:100]
        assert http.get("/sdapi/v1/progress").json()["progress"] == 0
    assert len(list(light.data_dir.rglob("*.png"))) - made <= 12
    assert light.memory() - before < 300_000_000


# pictures' metadata


def fuzzed(draw: random.Random) -> bytes:
    """A PNG with texts of every kind, some of its bytes then changed."""
    chunks = PngInfo()
    for _ in range(draw.randrange(4)):
        name = draw.choice(
            ["parameters", "prompt", "workflow", "Comment", "Description", "Software", "sd-metadata", "easel_recipe", "x" * 79]
        )
        text = draw.choice(
            ["", "{", "[" * 3000, '{"a":' * 500, "Steps: 1, " * 50, "NovelAI", '{"1": {"class_type": []}}', "\u202e\0", "9" * 5000, "null"]
        )
        if draw.random() < 0.5:
            chunks.add_itxt(name, text, zip=draw.random() < 0.5)
        else:
            chunks.add_text(name, text.encode("latin-1", "replace").decode("latin-1"), zip=draw.random() < 0.5)
    stream = io.BytesIO()
    Image.new(draw.choice(["RGB", "RGBA", "L", "P"]), (8, 8)).save(stream, "PNG", pnginfo=chunks)
    data = bytearray(stream.getvalue())
    for _ in range(draw.choice([0, 1, 5, 50])):
        data[draw.randrange(8, len(data))] = draw.randrange(256)
    if draw.random() < 0.1:
        del data[draw.randrange(8, len(data)) :]
    return bytes(data)


def fuzz_png_info(light: Live, count: int, seed: int) -> None:
    """Ask both routes; the page's, which keeps the picture on disk, every tenth time."""
    draw = random.Random(seed)
    with light.http(timeout=PATIENCE) as http:
        for number in range(count):
            data = fuzzed(draw)
            begin = light.processor_time()
            if number % 10:
                answer = http.post("/sdapi/v1/png-info", json={"image": base64.b64encode(data).decode()})
            else:
                answer = http.post("/internal/png-info", files={"file": ("x.png", data)})
            assert answer.status_code in (200, 422), answer.text[:300]
            assert light.processor_time() - begin <= 1


def test_no_damaged_metadata_is_a_server_error(light: Live) -> None:
    fuzz_png_info(light, 150, seed=1)


def test_a_thousand_fuzzed_pictures_are_read_in_a_second_each() -> None:
    draw = random.Random(2)
    for _ in range(1000):
        data = fuzzed(draw)
        with at_most(1):
            found = read_infotext(data)
            infotext.read(found.text)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_fuzzed_pictures_are_no_server_error(light: Live) -> None:
    fuzz_png_info(light, 20_000, seed=3)


# styles

PIECES = ("a", "=1+1", "+x", "-y", "@z", '"', '""', ",", "\n", "\r\n", "{prompt}", "'", "ü", "\u202e", "<b>", ";", "\t", " ", "🙂", "\\")


def test_two_thousand_styles_come_back_as_they_were_written() -> None:
    """Easel reads styles and never writes them: the writer is Python's, whose files those of A1111 are."""
    draw = random.Random(4)

    def text(least: int) -> str:
        return "".join(draw.choice(PIECES) for _ in range(draw.randrange(least, 12)))

    styles = {f"{i} {text(1)}".strip(): (text(0), text(0)) for i in range(2000)}
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["name", "prompt", "negative_prompt"])
    writer.writerows((name, *prompts) for name, prompts in styles.items())
    assert read_styles(stream.getvalue()) == [Style(name, *prompts) for name, prompts in styles.items()]
    assert len(styles) == 2000
