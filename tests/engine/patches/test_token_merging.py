"""Token merging: the published algorithm step by step, which layers it is for, hires fix's own ratio, and no trace."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from tests.tiny import tiny_model
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest
from webui.engine.patches.token_merging import Matching, merged_tokens


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unet():
    return tiny_model("sd1").unet


def answer(x, text=None):
    text = values(len(x), 77, 768, seed=1) if text is None else text
    return unet()(x, torch.tensor(500.0), encoder_hidden_states=text)[0]


def merged_slowly(seen, x, size, count):
    """One row, one pixel after the other: (what attention sees, for each pixel which of it stands for it)."""
    height, width = size
    targets = [row * width + column for row in range(0, height // 2 * 2, 2) for column in range(0, width // 2 * 2, 2)]
    sources = [place for place in range(height * width) if place not in targets]
    alike = torch.stack([functional.cosine_similarity(seen[[place]], seen[targets]) for place in sources])
    gone = sorted(range(len(sources)), key=lambda i: -float(alike[i].max()))[:count]
    into = {sources[i]: int(alike[i].argmax()) for i in gone}
    left = [place for place in sources if place not in into]
    means = [x[[target, *(place for place, number in into.items() if number == i)]].mean(0) for i, target in enumerate(targets)]
    stands = {place: i for i, place in enumerate(left)} | {target: len(left) + i for i, target in enumerate(targets)}
    return torch.stack([*x[left], *means]), [stands[place] if place in stands else len(left) + into[place] for place in range(len(x))]


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_the_most_alike_pixels_are_merged_into_every_second_of_every_second_row(size, ratio):
    pixels = size[0] * size[1]
    seen, x = values(2, pixels, 8), values(2, pixels, 8, seed=1)
    matching = Matching(seen, size, int(pixels * ratio))
    together = matching.merged(x)
    assert together.shape[1] == pixels - int(pixels * ratio)
    for row in range(2):  # the order of what is left does not matter to attention
        slowly, stands = merged_slowly(seen[row], x[row], size, int(pixels * ratio))
        torch.testing.assert_close(together[row].sort(0).values, slowly.sort(0).values)
        torch.testing.assert_close(matching.parted(together)[row], slowly[stands])


def test_no_more_are_merged_than_there_are_beside_the_targets():
    matching = Matching(values(1, 16, 8), (4, 4), 15)
    assert matching.merged(values(1, 16, 8)).shape[1] == 4


def test_only_the_layers_of_the_full_size_see_fewer_pixels(monkeypatch):
    seen = {}
    model = unet()
    for name, part in model.named_modules():
        if name.endswith(".attn1"):
            processor = part.processor
            monkeypatch.setattr(
                part,
                "processor",
                lambda layer, x, *rest, name=name, inner=processor, **named: seen.update({name: x.shape[1]}) or inner(layer, x),
            )
    with merged_tokens(model, 0.5):
        answer(values(1, 4, 16, 24))
    assert set(seen.values()) == {16 * 24 // 2, 8 * 12, 4 * 6, 2 * 3}
    full = [name for name, count in seen.items() if count == 192]
    assert full
    assert all(name.startswith(("down_blocks.0", "up_blocks.3")) for name in full)


def test_the_picture_changes_a_little_and_a_row_does_not_know_its_neighbours():
    x = values(2, 4, 16, 16)
    text = values(2, 77, 768, seed=1)
    plain = answer(x, text)
    with merged_tokens(unet(), 0.5):
        both, alone = answer(x, text), answer(x[1:], text[1:])
    assert 1e-3 < float((both - plain).norm() / plain.norm()) < 0.2
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


def test_it_leaves_no_trace():
    x = values(1, 4, 9, 8)
    plain = answer(x)
    with pytest.raises(KeyError), merged_tokens(unet(), 0.4):
        raise KeyError
    with merged_tokens(unet(), 0.0):
        assert torch.equal(answer(x), plain)
    assert torch.equal(answer(x), plain)
    hooks = [part for part in unet().modules() if part._forward_pre_hooks or "forward" in vars(part)]
    assert hooks == []


@pytest.mark.parametrize(("own", "expected"), [(0.0, 0.5), (0.25, 0.25)])
def test_the_second_pass_has_a_ratio_of_its_own_or_the_firsts(own, expected):
    request = GenerationRequest(hires=HiresFix(), guidance=GuidanceOptions(token_merging=0.5, token_merging_hr=own), width=64, height=64)
    first, second = request.passes()
    assert (first.guidance.token_merging, second.guidance.token_merging) == (0.5, expected)
    assert replace(request, guidance=None).second_pass().guidance is None
