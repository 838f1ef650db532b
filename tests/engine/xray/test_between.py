from dataclasses import replace

import pytest
import torch

from tests.engine.xray.conftest import REQUEST
from webui.core.errors import BadRequest
from webui.core.xray import Interpolation
from webui.engine.rng import ImageNoise, slerp
from webui.engine.xray.between import along_the_arc, frame_request

OTHER = "a green star"


@pytest.mark.parametrize("way", ["slerp", "lerp"])
def test_the_ends_are_the_pictures_of_both_prompts_and_seeds(lab, way):
    seen = lab.study(REQUEST, Interpolation(prompt=OTHER, seed=8, way=way, pictures=3))
    assert [frame["fraction"] for frame in seen.json("frames.json")["frames"]] == [0, 0.5, 1]
    assert seen.image("frame-000.png").tobytes() == lab.plain(REQUEST).tobytes()
    assert seen.image("frame-002.png").tobytes() == lab.plain(replace(REQUEST, prompt=OTHER, seed=8)).tobytes()
    middle = seen.image("frame-001.png").tobytes()
    assert middle not in (seen.image("frame-000.png").tobytes(), seen.image("frame-002.png").tobytes())


def test_between_seeds_the_noise_goes_along_the_arc():
    request = frame_request(REQUEST, Interpolation(seed=8), 0.25)
    noise = ImageNoise([request.seed], [request.variation_seed], request.variation_strength).first((4, 8, 8))[0]
    one, other = (ImageNoise([seed]).first((4, 8, 8))[0] for seed in (7, 8))
    assert torch.equal(noise, slerp(0.25, one, other))


def test_prompts_of_different_lengths_and_prompts_that_change_have_a_middle(lab):
    request = replace(REQUEST, prompt="a [red:blue:2] circle " + "word " * 80)
    assert len(lab.study(request, Interpolation(prompt=OTHER, pictures=3)).json("frames.json")["frames"]) == 3


def test_prompts_with_different_numbers_of_parts_have_none(lab):
    with pytest.raises(BadRequest, match="as many"):
        lab.study(REQUEST, Interpolation(prompt="a AND b", pictures=3))


def test_the_arc_has_its_ends_and_a_steady_angle():
    one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert torch.allclose(along_the_arc(one, other, 0.0), one)
    assert torch.allclose(along_the_arc(one, other, 1.0), other, atol=1e-6)
    assert torch.allclose(along_the_arc(one, other, 0.5), torch.tensor([[2**0.5, 2**0.5]]))
    assert torch.allclose(along_the_arc(one, one * 3, 0.5), one * 2)  # parallel: straight
