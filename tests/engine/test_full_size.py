"""Files of real sizes, with the real names and shapes of their tensors and random weights: loaded and run beside diffusers' own loader."""

import hashlib
from pathlib import Path
from typing import Any

import diffusers
import psutil
import pytest
import torch
from torch import Tensor

from tests.engine.test_families import BETAS, REQUEST, final_latents, noise, relative
from tests.tiny import CPU, full_size_parts
from webui.core.request import GenerationRequest
from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.family import Family, load_family
from webui.engine.ladders import give_memory_back
from webui.engine.tokenizers import load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SMALL = GenerationRequest(**{**vars(REQUEST), "width": 64, "height": 64, "steps": 2})
GIB = 2**30
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
NEEDED = {"sd1": 8, "sd2": 8, "sdxl": 16}  # GiB of main memory: a model in fp32, and its file on the way


@pytest.mark.parametrize("family", NEEDED)
def test_a_file_of_full_size_makes_the_latents_that_diffusers_makes(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if psutil.virtual_memory().available < NEEDED[family] * GIB:
        pytest.skip(f"needs {NEEDED[family]} GiB of free memory")
    path = tmp_path / "full.safetensors"
    save_single_file(path, **{"text_encoder": None, **full_size_parts(family)})
    give_memory_back()
    ours, told = made_by_easel(path, monkeypatch)
    assert told == family
    theirs = made_by_diffusers(path, family)
    path.unlink()  # pytest keeps its folders
    assert torch.isfinite(theirs).all()
    assert relative(ours, theirs) < 1e-3


def test_a_file_of_sdxls_full_size_loads_as_diffusers_loads_it(tmp_path: Path) -> None:
    """In fp16, one loader after the other, where the test above finds too little memory: all weights, bit for bit."""
    if psutil.virtual_memory().available < 9 * GIB:
        pytest.skip("needs 9 GiB of free memory")
    path = tmp_path / "full.safetensors"
    save_single_file(path, **full_size_parts("sdxl"))
    give_memory_back()
    model = load_checkpoint(path, torch.float16, CPU)
    ours = {name: sums(getattr(model.pipeline, name)) for name in PARTS}
    facts = model.family
    assert facts.name == "sdxl"
    del model
    give_memory_back()
    pipeline = their_pipeline(path, facts)
    path.unlink()
    for name in PARTS:
        assert ours[name] == sums(getattr(pipeline, name)), name


def sums(module: Any) -> dict[str, str]:
    """Of each weight, its numbers as fp16."""
    return {key: hashlib.sha256(tensor.half().numpy().tobytes()).hexdigest() for key, tensor in module.state_dict().items()}


def made_by_easel(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, str]:
    """Final latents, and the family that was found."""
    model = load_checkpoint(path, torch.float32, CPU)
    return final_latents(model, SMALL, monkeypatch), model.family.name


def their_pipeline(path: Path, facts: Family) -> Any:
    """As diffusers loads the file in fp16, which is how it is written."""
    kind: Any = diffusers.StableDiffusionXLPipeline if facts.is_sdxl else diffusers.StableDiffusionPipeline
    tokenizers = {layout.tokenizer: load_tokenizer(layout.pad_token) for layout in facts.text_encoders}
    return kind.from_single_file(str(path), config=str(facts.folder), torch_dtype=torch.float16, local_files_only=True, **tokenizers)


def made_by_diffusers(path: Path, family: str) -> Tensor:
    give_memory_back()
    facts = load_family(family)
    pipeline = their_pipeline(path, facts)
    pipeline.to(torch.float32)  # the same numbers: reading them as fp32 at once, diffusers holds the file and the model together
    pipeline.scheduler = diffusers.EulerDiscreteScheduler(**BETAS, prediction_type=facts.prediction_type)
    pipeline.set_progress_bar_config(disable=True)
    made: Tensor = pipeline(
        SMALL.prompt,
        negative_prompt=SMALL.negative_prompt,
        width=SMALL.width,
        height=SMALL.height,
        num_inference_steps=SMALL.steps,
        guidance_scale=SMALL.cfg_scale,
        latents=noise(SMALL),
        output_type="latent",
    ).images
    return made
