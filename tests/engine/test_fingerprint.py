"""A change of any layer is seen; nothing else is."""

import torch
from torch import nn

from tests.tiny import tiny_parts
from webui.engine.fingerprint import fingerprint


def test_a_change_of_any_layer_is_seen() -> None:
    unet = tiny_parts("miniature", vocabulary=9)["unet"].half()
    before = fingerprint([unet])
    assert fingerprint([unet]) == before
    for weight in unet.parameters():
        original = weight.clone()
        weight.add_(0.01)
        assert fingerprint([unet]) != before
        weight.copy_(original)
    assert fingerprint([unet]) == before


def test_the_number_type_matters() -> None:
    layer = nn.Conv2d(4, 4, 3).requires_grad_(False)
    before = fingerprint([layer])
    assert fingerprint([layer.half()]) != before


def test_weights_of_any_layout_and_of_no_numbers_at_all_have_one() -> None:
    layer = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layer.nothing = nn.Parameter(torch.empty(0))
    before = fingerprint([layer])
    assert fingerprint([layer]) == before
    layer.requires_grad_(False).weight += 1
    assert fingerprint([layer]) != before
