"""Upscalers' model files: read through the one door, as spandrel reads them; tiles leave no seam; too little memory or precision is met."""

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tests.hostile import Call, torch_zip
from webui.core.errors import BadModelFile, EngineError, OutOfMemory
from webui.engine import upscaler_model
from webui.engine.upscaler_model import Compact, UpscalerModel, load_upscaler, spandrel
from webui.engine.upscaling import outcome

CPU = torch.device("cpu")
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 70, 3), np.uint8))


def compact(scale: int = 2, channels: int = 3) -> Compact:
    torch.manual_seed(0)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


@pytest.fixture
def model(tmp_path: Path) -> UpscalerModel:
    save_file(compact().state_dict(), tmp_path / "small-x2.safetensors")
    return load_upscaler(tmp_path / "small-x2.safetensors", CPU)


def by_hand(network: nn.Module, image: Image.Image) -> np.ndarray:
    """The whole picture through the network: rows, columns, channels."""
    x = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        return (network(x)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()


def test_a_model_makes_what_its_network_makes(model):
    image = outcome(model.enlarged(NOISE, 0, 0))
    assert model.scale == 2
    assert np.abs(np.asarray(image, np.float32) - by_hand(compact(), NOISE)).max() <= 1


@pytest.mark.parametrize("wrapped", [{}, {"params": None}, {"params_ema": None}, {"state_dict": None}])
def test_a_pickle_gives_the_weights_that_spandrel_s_own_loader_gives(tmp_path, wrapped):
    weights = compact(4).state_dict()
    path = tmp_path / "4x.pth"
    torch.save(dict.fromkeys(wrapped, weights) or weights, path)
    ours, theirs = load_upscaler(path, CPU).network, spandrel.ModelLoader().load_from_file(path)
    assert (ours.scale, ours.architecture.id) == (theirs.scale, theirs.architecture.id) == (4, "Compact")
    assert all(torch.equal(ours.model.state_dict()[name], tensor) for name, tensor in theirs.model.state_dict().items())


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("architecture", ["ESRGAN", "SPAN", "SwinIR"])
def test_other_architectures_are_read_and_run(tmp_path, architecture):
    torch.manual_seed(0)
    network = {
        "ESRGAN": lambda: _made("ESRGAN", "ESRGAN", num_filters=8, num_blocks=1, scale=4),
        "SPAN": lambda: _made("SPAN", "SPAN", num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
        "SwinIR": lambda: _made(
            "SwinIR", "SwinIR", embed_dim=12, depths=[2], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffle"
        ),
    }[architecture]()
    torch.save({"params": network.state_dict()}, tmp_path / "a.pth")
    model = load_upscaler(tmp_path / "a.pth", CPU)
    assert model.network.architecture.id == architecture
    image = outcome(model.enlarged(NOISE, 64, 8))
    assert image.size == (70 * model.scale, 90 * model.scale)


def _made(architecture: str, name: str, **arguments: object) -> nn.Module:
    module = __import__(f"spandrel.architectures.{architecture}", fromlist=[name])
    network: nn.Module = getattr(module, name)(**arguments)
    return network


@pytest.mark.parametrize(("tile", "overlap"), [(48, 24), (64, 16), (33, 16)])
def test_tiles_leave_no_seam(model, tile, overlap):
    whole = outcome(model.enlarged(NOISE, 0, 0))
    assert np.abs(np.asarray(outcome(model.enlarged(NOISE, tile, overlap)), int) - np.asarray(whole, int)).max() <= 1


def test_without_overlap_tiles_would_show(model):
    whole = outcome(model.enlarged(NOISE, 0, 0))
    assert np.abs(np.asarray(outcome(model.enlarged(NOISE, 48, 0)), int) - np.asarray(whole, int)).max() > 1


def test_each_tile_is_told(model):
    assert list(model.enlarged(NOISE, 48, 8)) == [(i, 6) for i in range(1, 7)]


def test_a_model_for_grey_pictures_gives_grey(tmp_path):
    save_file(compact(channels=1).state_dict(), tmp_path / "grey.safetensors")
    image = np.asarray(outcome(load_upscaler(tmp_path / "grey.safetensors", CPU).enlarged(NOISE, 0, 0)))
    assert image.shape == (180, 140, 3)
    assert (image == image[:, :, :1]).all()


def test_where_memory_runs_out_tiles_become_smaller(model, monkeypatch):
    run, sides = model._run, []

    def tight(image: Image.Image) -> Image.Image:
        sides.append(max(image.size))
        if max(image.size) > 48:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return run(image)

    whole = outcome(model.enlarged(NOISE, 0, 16))
    monkeypatch.setattr(model, "_run", tight)
    assert np.abs(np.asarray(outcome(model.enlarged(NOISE, 0, 16)), int) - np.asarray(whole, int)).max() <= 1
    assert sides[:2] == [90, 45]


def test_where_the_smallest_tiles_do_not_fit_it_is_told(model, monkeypatch):
    def full(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(model, "_run", full)
    with pytest.raises(OutOfMemory, match="memory ran out while making a picture larger"):
        outcome(model.enlarged(NOISE, 64, 8))


def test_where_16_bits_are_too_few_the_network_works_in_32(tmp_path):
    network = compact()
    with torch.no_grad():
        network.body[0].weight *= 2e5  # what comes of it is beyond fp16's range
        network.body[2].weight *= 2e-5
        network.body[4].weight *= 0.25
    save_file(network.state_dict(), tmp_path / "loud.safetensors")
    model = load_upscaler(tmp_path / "loud.safetensors", CPU, torch.float16)
    assert model.network.dtype is torch.float16
    image = outcome(model.enlarged(NOISE, 0, 0))
    assert model.network.dtype is torch.float32
    assert np.asarray(image).std() > 10


def test_numbers_that_are_none_are_told(tmp_path):
    save_file({name: tensor * float("nan") for name, tensor in compact().state_dict().items()}, tmp_path / "nan.safetensors")
    with pytest.raises(EngineError, match=r"nan\.safetensors gave no numbers"):
        outcome(load_upscaler(tmp_path / "nan.safetensors", CPU).enlarged(NOISE, 0, 0))


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "bad.pth"
    path.write_bytes(torch_zip(pickle.dumps(Call(Path.touch, canary))))
    with pytest.raises(BadModelFile, match=r"bad\.pth"):
        load_upscaler(path, CPU)
    assert not canary.exists()


@pytest.mark.parametrize("content", ["words", "lora", "list", "zip"])
def test_other_files_are_refused_with_a_sentence(tmp_path, content):
    path = tmp_path / "other.pth"
    if content == "words":
        path.write_text("not a model at all")
    elif content == "lora":
        save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, path)
    elif content == "list":
        torch.save([1, "two"], path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "b")
    with pytest.raises(BadModelFile, match=r"other\.pth"):
        load_upscaler(path, CPU)


def test_torchvision_is_neither_needed_nor_left_in_pieces():
    assert sys.modules["torchvision"] is None
    assert upscaler_model.FUNCTIONS not in sys.modules
