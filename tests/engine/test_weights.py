"""Letting go of models, and loading one."""

import gc
import weakref
from pathlib import Path

import torch

from tests.tiny import CPU, tiny_parts
from webui.core.event import Finished, Loading
from webui.core.model_orders import WeightsOrder
from webui.engine.checkpoint import save_single_file
from webui.engine.model_cache import ModelCache
from webui.engine.weights import keep_weights


def test_unloading_frees_every_weight_and_reloading_brings_one_model_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_single_file(path, **tiny_parts("miniature", vocabulary=9))
    cache = ModelCache(10**12)

    def load(name: str, text_encoder: str) -> object:
        assert text_encoder == "clip.safetensors"
        return cache.load(tmp_path / name, None, torch.float32, CPU)

    order = WeightsOrder(action="reload", checkpoint="a.safetensors", text_encoder="clip.safetensors")
    told = list(keep_weights(order, forget=cache.forget, load=load))
    assert told == [Loading("loading a.safetensors"), Finished()]
    assert len(cache) == 1
    weight = weakref.ref(next(iter(cache.load(path, None, torch.float32, CPU).unet.parameters())))
    assert list(keep_weights(WeightsOrder(action="unload"), forget=cache.forget, load=load)) == [Finished()]
    gc.collect()
    assert (len(cache), weight()) == (0, None)
