"""Saving a checkpoint as a job: the weights are those in memory, in the number type asked for; stopped, it leaves nothing."""

from pathlib import Path

import pytest
import torch

from tests.engine.test_merge import Going
from tests.tiny import CPU, tiny_checkpoint
from webui.core.errors import BadRequest
from webui.core.event import Finished, Loading, Progress
from webui.core.model_orders import SaveOrder
from webui.engine.checkpoint import load_checkpoint
from webui.engine.model import DiffusionModel
from webui.engine.saving import save


@pytest.fixture
def model(tmp_path: Path) -> DiffusionModel:
    return load_checkpoint(tiny_checkpoint(tmp_path / "a.safetensors", dtype=torch.float32), torch.float32, CPU)


@pytest.mark.parametrize("layout", ["single file", "diffusers folder"])
@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_what_is_saved_holds_the_weights_in_memory(
    model: DiffusionModel, tmp_path: Path, precision: str, dtype: torch.dtype, layout: str
) -> None:
    order = SaveOrder(checkpoint="a", name="new", precision=precision, layout=layout)
    events = list(save(order, Going(), load=lambda asked: model, folder=tmp_path / "out"))
    assert isinstance(events[0], Loading)
    assert events[-2:] == [Progress(1, 1, 100, 100, "writing new"), Finished()]
    saved = load_checkpoint(tmp_path / "out" / order.file_name, torch.float32, CPU)
    for part in ("unet", "vae", "text_encoder"):
        before, after = getattr(model.pipeline, part).state_dict(), getattr(saved.pipeline, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor.to(dtype).float()) for name, tensor in before.items() if tensor.is_floating_point())


@pytest.mark.parametrize("layout", ["single file", "diffusers folder"])
def test_a_stopped_job_leaves_nothing(model: DiffusionModel, tmp_path: Path, layout: str) -> None:
    order = SaveOrder(checkpoint="a", name="new", layout=layout)
    events = list(save(order, Going(5), load=lambda asked: model, folder=tmp_path / "out"))
    assert events[-1] == Finished(interrupted=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_is_taken_is_refused(model: DiffusionModel, tmp_path: Path) -> None:
    before = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(BadRequest, match="exists already"):
        list(save(SaveOrder(checkpoint="a", name="a"), Going(), load=lambda asked: model, folder=tmp_path))
    assert (tmp_path / "a.safetensors").read_bytes() == before


@pytest.mark.parametrize("layout", ["single file", "diffusers folder"])
def test_what_a_checkpoint_is_said_to_predict_is_in_the_new_file(model: DiffusionModel, tmp_path: Path, layout: str) -> None:
    order = SaveOrder(checkpoint="a", name="new", layout=layout, prediction_type="v_prediction + zero terminal SNR")
    list(save(order, Going(), load=lambda asked: model.predicting(asked.prediction_type), folder=tmp_path))
    family = load_checkpoint(tmp_path / order.file_name, torch.float32, CPU).family
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", True)
