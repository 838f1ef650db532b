from dataclasses import replace
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, InitImage, Inpaint
from webui.core.scripts.plan import PREVIOUS, Plan
from webui.core.scripts.table import find_script

INIT = InitImage(image="0" * 64, denoising_strength=0.8, inpaint=Inpaint(mask="1" * 64, content="fill"))
BASE = GenerationRequest(seed=5, variation_seed=1, init=INIT, batch_size=4)


def loopback(base: GenerationRequest = BASE, **arguments: Any) -> Plan:
    return find_script("loopback").plan(base, arguments, lambda: 77)


def test_each_picture_begins_with_the_one_before() -> None:
    inits = [step.request.init for step in loopback(loops=3).steps]
    assert [init.image for init in inits if init] == ["0" * 64, PREVIOUS, PREVIOUS]
    assert [init.inpaint.content for init in inits if init and init.inpaint] == ["fill", "original", "original"]


def test_seeds_count_on_and_batches_begin_anew() -> None:
    plan = loopback(replace(BASE, batch_count=2), loops=2)
    assert [step.request.seed for step in plan.steps] == [5, 6, 7, 8]
    assert [step.request.init.image for step in plan.steps if step.request.init] == ["0" * 64, PREVIOUS] * 2
    assert plan.sheet is not None
    assert plan.sheet.cells == (1, 3)


@pytest.mark.parametrize(
    ("curve", "strengths"),
    [("Linear", [0.8, 0.6, 0.4]), ("Aggressive", [0.8, 0.517157, 0.4]), ("Lazy", [0.8, 0.682843, 0.4])],
)
def test_the_strength_goes_to_its_end_along_the_curve(curve: str, strengths: list[float]) -> None:
    plan = loopback(loops=3, final_denoising_strength=0.4, denoising_curve=curve)
    assert [step.request.init.denoising_strength for step in plan.steps if step.request.init] == strengths


def test_one_loop_is_plain_img2img_without_a_sheet() -> None:
    plan = loopback(loops=1)
    assert [step.request.init for step in plan.steps] == [INIT]
    assert plan.sheet is None


def test_what_cannot_be_looped_is_told() -> None:
    with pytest.raises(BadRequest, match="not offered in txt2img"):
        loopback(replace(BASE, init=None))
    with pytest.raises(BadRequest, match="Append interrogated"):
        loopback(append_interrogation="CLIP")
    with pytest.raises(BadRequest, match="Loops"):
        loopback(loops=99)
