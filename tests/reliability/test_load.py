"""Rows 24, 32 and 36 of docs/reliability.md: many users, models that change under them, and long runs."""

import base64
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.reliability.live import PATIENCE, SMALL, Live, serving
from tests.service.conftest import until
from webui.core.settings import MINIATURE, PROJECT_DIR

CLIENTS = 10
MOST_GROWTH = 100_000_000  # bytes
Check = Callable[[httpx.Client, int, int], None]  # given a client's number and how many pictures it has


def picture_of(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text[:500]
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))


def colour_of(seed: int) -> tuple[int, int]:
    """What the worker without torch paints for a seed; see tests/service/handlers.py."""
    return seed % 256, seed // 256 % 256


def draw_and_check(http: httpx.Client, client: int, number: int) -> None:
    """One client draws, reads back what it got and looks around."""
    seed = client * 1000 + number
    answer = http.post("/sdapi/v1/txt2img", json=SMALL | {"seed": seed, "prompt": f"client {client}"})
    assert picture_of(answer).getpixel((0, 0))[:2] == colour_of(seed)
    told = json.loads(answer.json()["info"])
    assert (told["seed"], told["prompt"]) == (seed, f"client {client}")
    assert http.get("/sdapi/v1/progress").status_code == 200


def all_use(live: Live, seconds: float, least: int, check: Check = draw_and_check) -> list[int]:
    """All clients draw, one picture after another, for `seconds` and until each has `least`; returns how many each has then."""
    made, begun, failed = [0] * CLIENTS, threading.Barrier(CLIENTS), threading.Event()
    end = time.monotonic() + seconds

    def use(client: int) -> None:
        with live.http() as http:
            begun.wait(PATIENCE)
            try:
                while (min(made) < least or time.monotonic() < end) and not failed.is_set():
                    check(http, client, made[client])
                    made[client] += 1
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(use, client) for client in range(CLIENTS)]:
            done.result()
    return made


def test_ten_clients_get_their_own_pictures_in_turn(light: Live) -> None:
    made = all_use(light, 0, least=5)
    assert max(made) <= 3 * min(made)


def test_memory_and_handles_are_flat(light: Live) -> None:
    all_use(light, 0, least=5)
    memory, handles = light.memory(), light.handles()
    all_use(light, 0, least=10)
    assert light.memory() - memory <= MOST_GROWTH / 4
    until(lambda: light.handles() - handles <= 5)  # connections are closed a moment later


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_clients_for_ten_minutes(tmp_path: Path) -> None:
    with serving(tmp_path) as live:
        all_use(live, 30, least=3)
        memory, handles = live.memory(), live.handles()
        made = all_use(live, 600, least=20)
        assert max(made) <= 3 * min(made)
        assert live.memory() - memory <= MOST_GROWTH
        until(lambda: live.handles() - handles <= 5)


# with the miniature: two checkpoints, switched under load


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Easel with the miniature and a checkpoint that is a little different."""
    folder = tmp_path_factory.mktemp("two")
    weights = load_file(PROJECT_DIR / MINIATURE)
    name = next(key for key in sorted(weights) if key.endswith("input_blocks.0.0.weight"))
    weights[name] = weights[name] * 0.5
    target = folder / "data" / "models" / "Stable-diffusion" / "other.safetensors"
    target.parent.mkdir(parents=True)
    save_file(weights, target)
    with serving(folder, "app.py", "--use-cpu", "--nowebui") as live:
        yield live


def body(checkpoint: str, seed: int, **more: Any) -> dict[str, Any]:
    settings = {"sd_model_checkpoint": checkpoint}
    return SMALL | {"steps": 4, "seed": seed, "override_settings": settings, "override_settings_restore_afterwards": True} | more


def switching(live: Live, rounds: int) -> None:
    checkpoints, seeds = ("easel-miniature", "other"), (1, 2)
    with live.http(timeout=300) as http:
        alone = {
            (checkpoint, seed): picture_of(http.post("/sdapi/v1/txt2img", json=body(checkpoint, seed))).tobytes()
            for checkpoint in checkpoints
            for seed in seeds
        }
    assert len(set(alone.values())) == 4

    def client(number: int) -> None:
        draw = random.Random(number)
        with live.http(timeout=300) as http:
            for _ in range(rounds):
                checkpoint, seed = draw.choice(checkpoints), draw.choice(seeds)
                http.post("/sdapi/v1/options", json={"sd_model_checkpoint": draw.choice(checkpoints)})
                answer = http.post("/sdapi/v1/txt2img", json=body(checkpoint, seed))
                assert picture_of(answer).tobytes() == alone[checkpoint, seed]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_job_runs_wholly_on_its_own_checkpoint(two_models: Live) -> None:
    switching(two_models, rounds=8)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_interrupts_and_skips_under_load_answer_at_once_and_harm_no_other_job(two_models: Live) -> None:
    with two_models.http(timeout=300) as http, ThreadPoolExecutor(2) as pool:
        alone = picture_of(http.post("/sdapi/v1/txt2img", json=body("other", 3))).tobytes()

        def step_of_the_long_one() -> int:
            state = http.get("/sdapi/v1/progress").json()["state"]
            return int(state["sampling_step"]) if state["sampling_steps"] == 1000 else 0

        for word in ("interrupt", "skip", "interrupt"):
            long = pool.submit(http.post, "/sdapi/v1/txt2img", json=body("easel-miniature", 1, steps=1000))
            begun = until(step_of_the_long_one)
            waiting = pool.submit(http.post, "/sdapi/v1/txt2img", json=body("other", 3))
            assert http.post(f"/sdapi/v1/{word}").status_code == 200
            told = max(begun, step_of_the_long_one())
            while not long.done():
                assert step_of_the_long_one() - told < 100  # of a thousand, by way of two processes
                time.sleep(0.05)
            texts = json.loads(long.result().json()["info"])["infotexts"]
            assert ["Interrupted: True" in text for text in texts] == [True] * (word == "interrupt")  # a skipped picture is none
            assert picture_of(waiting.result()).tobytes() == alone


def ten_clients_of_the_miniature(live: Live, seconds: float) -> list[int]:
    """Ten clients draw three pictures each, over and over: all equal those that were made alone. Returns how many each got."""
    prompts = [f"a {colour} {thing}" for thing in ("circle", "square") for colour in ("red", "green", "blue", "yellow", "white")]

    def drawn(http: httpx.Client, client: int, number: int) -> bytes:
        asked = body("easel-miniature", client * 1000 + number % 3, prompt=prompts[client])
        answer = http.post("/sdapi/v1/txt2img", json=asked)
        picture, told = picture_of(answer), json.loads(answer.json()["info"])
        assert (told["seed"], told["prompt"]) == (asked["seed"], asked["prompt"])
        assert picture.info["parameters"] == told["infotexts"][0]
        return picture.tobytes()

    with live.http() as http:
        alone = [[drawn(http, client, number) for number in range(3)] for client in range(CLIENTS)]
    assert len({picture for pictures in alone for picture in pictures}) == 3 * CLIENTS

    def check(http: httpx.Client, client: int, number: int) -> None:
        assert drawn(http, client, number) == alone[client][number % 3]

    all_use(live, seconds / 4, 3, check)
    memory, handles = live.memory(), live.handles()
    made = all_use(live, seconds, 3, check)
    assert live.memory() - memory <= MOST_GROWTH
    until(lambda: live.handles() - handles <= 5)
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_clients_of_the_miniature_get_their_own_pictures(two_models: Live) -> None:
    made = ten_clients_of_the_miniature(two_models, 600)
    print(f"{sum(made)} pictures, {min(made)} to {max(made)} each")  # noqa: T201
    assert max(made) <= 3 * min(made)


def long_run(live: Live, seconds: float) -> int:
    """Pictures, models switched now and then: memory and handles stay as they are. Returns how many."""
    with live.http() as http:

        def run(seconds: float) -> int:
            made, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                checkpoint = ("easel-miniature", "other")[made // 10 % 2]
                picture_of(http.post("/sdapi/v1/txt2img", json=body(checkpoint, made, batch_size=1 + made % 2)))
                made += 1
            return made

        run(60)
        memory, handles = live.memory(), live.handles()
        made = run(seconds)
        assert live.memory() - memory <= MOST_GROWTH
        until(lambda: live.handles() - handles <= 5)
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_long_run_of_the_miniature_leaks_neither_memory_nor_handles(two_models: Live) -> None:
    assert long_run(two_models, 900) > 50
