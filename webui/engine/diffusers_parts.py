"""The classes of diffusers and transformers that models are made of, imported in one place and without noise.

Their first import warns about torchvision, which Easel does not use; that warning is held back, later ones are not.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import transformers
from huggingface_hub.errors import StrictDataclassError  # what transformers' configurations raise for values of the wrong kind

__all__ = [
    "AutoencoderKL",
    "CLIPTextConfig",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionConfig",
    "CLIPVisionModelWithProjection",
    "EulerDiscreteScheduler",
    "PNDMScheduler",
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StrictDataclassError",
    "UNet2DConditionModel",
]


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger(transformers.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


with _quiet():
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )
