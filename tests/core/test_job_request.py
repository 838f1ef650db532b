"""Every kind of request comes back from storage as it was."""

import json

import pytest

from webui.core.job_request import KINDS, JobRequest, kind_of
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest, InitImage
from webui.core.training_request import TrainingRequest
from webui.core.xray import Interpolation, XrayRequest


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(prompt="a", init=InitImage(image="b" * 64)),
        MergeRecipe(primary="a", secondary="b", multiplier=0.7, discard_weights="x"),
        TrainingRequest(kind="embedding", name="a", steps=5, data_root="b", widths=(1, 2), dropout=(0, 0.5, 0)),
        SaveOrder(checkpoint="a", name="b", vae="v", precision="bf16", layout="diffusers folder"),
        XrayRequest(base=GenerationRequest(prompt="a"), study=Interpolation(prompt="b", seed=3)),
    ],
)
def test_a_stored_request_comes_back(request_: JobRequest) -> None:
    stored = json.dumps(request_.to_json())
    assert KINDS[kind_of(request_)].from_json(json.loads(stored)) == request_
