"""What a UNet predicts is told by its weights where nothing else tells it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.tiny import CPU, tiny_parts
from webui.core.settings import MINIATURE, PROJECT_DIR
from webui.engine.checkpoint import load_checkpoint, save_model, save_single_file
from webui.engine.model import alphas_cumprod
from webui.engine.prediction import LAST, likeness_to_noise


class AnsweringV(nn.Module):
    """A UNet that predicts noise, made to answer v as it follows from that."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet, self.config, self.device = unet, unet.config, unet.device

    def forward(self, x: Tensor, *given: Any, **more: Any) -> tuple[Tensor]:
        share = float(alphas_cumprod()[LAST])
        noise = self.unet(x, *given, **more)[0]
        picture = (x - (1 - share) ** 0.5 * noise) / share**0.5
        return (share**0.5 * noise - (1 - share) ** 0.5 * picture,)


def echoing(unet: Any) -> Any:
    """The UNet with weights that give back what it is given: an all too perfect prediction of noise."""
    for weight in unet.parameters():
        weight.zero_()
    unet.conv_norm_out.weight.fill_(1)
    last = unet.up_blocks[-1].resnets[-1]  # it sees what conv_in made, too: the further half of its input
    for channel in range(4):
        for sign, place in ((1, channel), (-1, 4 + channel)):  # silu(x) - silu(-x) = x
            unet.conv_in.weight[place, channel, 1, 1] = unet.conv_out.weight[channel, place, 1, 1] = sign
            last.conv_shortcut.weight[place, len(last.conv_shortcut.weight) + place] = 1
    return unet


def test_trained_unets_are_told_apart_by_a_wide_margin() -> None:
    unet = load_checkpoint(PROJECT_DIR / MINIATURE, torch.float16, CPU).unet
    assert likeness_to_noise(unet) > 0.95
    assert likeness_to_noise(AnsweringV(unet.float())) < 0.1  # type: ignore[arg-type]


@pytest.mark.parametrize(("echoes", "expected"), [(True, ("epsilon", 512)), (False, ("v_prediction", 768))])
def test_an_sd2_file_without_a_word_about_it_is_what_its_weights_say(tmp_path: Path, echoes: bool, expected: tuple[str, int]) -> None:
    parts = tiny_parts("sd2", vocabulary=500)
    if echoes:
        echoing(parts["unet"])
    save_single_file(tmp_path / "x.safetensors", **parts)
    model = load_checkpoint(tmp_path / "x.safetensors", torch.float32, CPU)
    assert (model.family.prediction_type, model.family.native_size) == expected
    assert model.pipeline.scheduler.config.prediction_type == expected[0]
    save_model(model, tmp_path / "saved")  # from now on it says so
    assert load_checkpoint(tmp_path / "saved", torch.float32, CPU).family == model.family


def test_what_the_file_says_counts_more_than_the_weights(tmp_path: Path) -> None:
    save_single_file(tmp_path / "x.safetensors", **tiny_parts("sd2", vocabulary=500))
    save_file(load_file(tmp_path / "x.safetensors"), tmp_path / "y.safetensors", metadata={"modelspec.prediction_type": "epsilon"})
    assert load_checkpoint(tmp_path / "y.safetensors", torch.float32, CPU).family.prediction_type == "epsilon"


def test_damaged_weights_are_not_taken_for_anything_special(tmp_path: Path) -> None:
    unet = tiny_parts("sd2", vocabulary=500)["unet"]
    unet.conv_in.weight.fill_(torch.nan)
    assert not likeness_to_noise(unet) > 0
