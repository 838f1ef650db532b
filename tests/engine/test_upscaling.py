"""Enlarging pictures: models are applied until the size is reached, Lanczos does the rest; models are loaded once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.engine.test_upscaler_model import NOISE, compact
from webui.core.errors import BadRequest
from webui.engine import upscaling
from webui.engine.device import Device
from webui.engine.masking import LANCZOS
from webui.engine.upscaler_model import UpscalerModel, load_upscaler
from webui.engine.upscalers import UpscalerStore
from webui.engine.upscaling import FILTERS_ALONE, enlarging, make_enlarge, outcome

CPU = Device(torch.device("cpu"), torch.float32, torch.float32)


@pytest.fixture
def store(tmp_path: Path) -> UpscalerStore:
    save_file(compact(2).state_dict(), tmp_path / "two.safetensors")
    save_file(compact(1).state_dict(), tmp_path / "clean.safetensors")
    return UpscalerStore(lambda name: tmp_path / f"{name}.safetensors", CPU)


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the pictures that a model was applied to."""
    sizes: list[tuple[int, int]] = []
    plain = UpscalerModel.enlarged

    def noted(self, image, tile, overlap):
        sizes.append(image.size)
        return (yield from plain(self, image, tile, overlap))

    monkeypatch.setattr(UpscalerModel, "enlarged", noted)
    return sizes


@pytest.mark.parametrize(
    ("size", "passes"),
    [
        ((140, 180), [(70, 90)]),
        ((100, 120), [(70, 90)]),
        ((280, 360), [(70, 90), (140, 180)]),
        ((150, 180), [(70, 90), (140, 180)]),
        ((700, 900), [(70, 90), (140, 180), (280, 360)]),  # no more than three times, as the field does
        ((35, 45), []),
        ((70, 90), []),
    ],
)
def test_a_model_is_applied_until_the_size_is_reached(store, applied, size, passes):
    assert make_enlarge(store.load)(NOISE, size, "two").size == size
    assert applied == passes


def test_what_is_too_much_is_left_to_lanczos(store):
    twice = outcome(store.load("two").enlarged(NOISE, 0, 0))
    made = make_enlarge(store.load)(NOISE, (96, 120), "two")
    assert np.abs(np.asarray(made, int) - np.asarray(twice.resize((96, 120), LANCZOS), int)).max() <= 1


def test_a_model_of_scale_1_is_applied_once(store, applied):
    assert make_enlarge(store.load)(NOISE, (140, 180), "clean").size == (140, 180)
    assert applied == [(70, 90)]


def test_a_picture_that_has_the_size_is_worked_on_where_that_is_asked_for(store, applied):
    assert outcome(enlarging(NOISE, NOISE.size, "two", store.load, always=True)).size == NOISE.size
    assert applied == [NOISE.size]


def test_shares_rise_to_the_whole_over_all_passes(store):
    shares = list(enlarging(NOISE, (280, 360), "two", store.load, tile=64, overlap=8))
    assert shares == sorted(shares)
    assert (shares[0] > 0, shares[-1], len(shares)) == (True, 1.0, 4 + 12)


@pytest.mark.parametrize(("upscaler", "resampling"), [("Lanczos", LANCZOS), ("Nearest", Image.Resampling.NEAREST)])
def test_filters_are_pillow_s_by_way_of_sides_of_whole_latents(upscaler, resampling):
    by_hand = NOISE.resize((144, 185), resampling).resize((144, 184), LANCZOS)
    assert FILTERS_ALONE(NOISE, (144, 184), upscaler).tobytes() == by_hand.tobytes()
    by_hand = NOISE.resize((140, 180), resampling).resize((136, 176), LANCZOS).resize((140, 180), LANCZOS)
    assert FILTERS_ALONE(NOISE, (140, 180), upscaler).tobytes() == by_hand.tobytes()


def test_none_and_what_is_not_larger_are_left_to_lanczos_alone():
    assert FILTERS_ALONE(NOISE, (140, 180), "None").tobytes() == NOISE.resize((140, 180), LANCZOS).tobytes()
    assert FILTERS_ALONE(NOISE, (35, 45), "Nearest").tobytes() == NOISE.resize((35, 45), LANCZOS).tobytes()
    assert FILTERS_ALONE(NOISE, (70, 60), "Nearest").tobytes() == NOISE.resize((70, 60), LANCZOS).tobytes()


def test_too_large_a_picture_on_the_way_is_told_before_it_is_made(store, monkeypatch):
    monkeypatch.setattr(upscaling, "MOST_PIXELS", 100_000)
    with pytest.raises(BadRequest, match="280x360 on the way to 200x256"):
        make_enlarge(store.load)(NOISE, (200, 256), "two")


def test_without_models_their_names_are_not_known():
    with pytest.raises(BadRequest, match="upscaler 'two' is not known"):
        FILTERS_ALONE(NOISE, (140, 180), "two")


def test_a_model_is_read_once_and_again_when_its_file_is_another(store, tmp_path):
    first = store.load("two")
    assert store.load("two") is first
    save_file(compact(4).state_dict(), tmp_path / "two.safetensors")
    assert store.load("two").scale == 4


def test_no_more_than_two_models_are_kept(store, tmp_path):
    first = store.load("two")
    store.load("clean")
    assert store.load("two") is first
    save_file(compact(4).state_dict(), tmp_path / "four.safetensors")
    store.load("four")
    assert store.load("two") is first
    cleaner = store.load("clean")
    assert store.load("clean") is cleaner
    assert store.load("four").scale == 4


def test_on_a_card_the_network_works_in_16_bits(store, tmp_path):
    half = UpscalerStore(lambda name: tmp_path / f"{name}.safetensors", replace(CPU, dtype=torch.float16))
    assert half.load("two").network.dtype is torch.float16
    assert load_upscaler(tmp_path / "two.safetensors", torch.device("cpu")).network.dtype is torch.float32
