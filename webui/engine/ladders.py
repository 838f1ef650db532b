"""What is tried next where 16 bits are too few or memory runs out, and what the user is told where nothing is left to try."""

import copy
import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from webui.core.errors import EngineError, OutOfMemory
from webui.engine.diffusers_parts import AutoencoderKL

log = logging.getLogger(__name__)
Result = TypeVar("Result")
WIDER = {torch.float16: (torch.bfloat16, torch.float32), torch.bfloat16: (torch.float32,)}  # bfloat16: fewer digits, but fp32's range
C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")  # in RuntimeErrors: of the CPU, of Apple's GPU, of cuBLAS


class UnetOverflow(EngineError):
    """The UNet gave something that is no number; 16-bit arithmetic is one reason."""


def check_unet(latents: Tensor) -> None:
    """Raises UnetOverflow where the UNet gave something that is no number: no VAE can mend it. Waits for the device once."""
    if not bool(torch.isfinite(latents).all()):
        raise UnetOverflow("the picture came out as not-a-number, in 32-bit arithmetic too: the model file may be damaged; get it again")


def with_more_precision(vae: AutoencoderKL, run: Callable[[AutoencoderKL], Tensor]) -> Tensor:
    """run(vae); where that is not finite, run with copies of the VAE in wider number types. The VAE itself stays as it is.

    Raises EngineError where it is not finite even in fp32.
    """
    result = run(vae)
    for dtype in WIDER.get(vae.dtype, ()):
        if bool(torch.isfinite(result).all()):
            return result
        log.warning("the VAE overflowed in 16-bit arithmetic and is run again in %s; --no-half-vae saves the first try", dtype)
        result = run(copy.deepcopy(vae).to(dtype))
    if bool(torch.isfinite(result).all()):
        return result
    raise EngineError("the picture came out as not-a-number: the VAE's file may be damaged; choose another VAE")


def with_less_memory(attempts: Iterable[Callable[[], Result]], advice: str) -> Result:
    """The result of the first attempt for which there is memory. Raises OutOfMemory with `advice` where there is none."""
    for attempt in attempts:
        try:
            return attempt()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        give_memory_back()  # only here is the error, which holds on to what the attempt had made, let go of
    raise OutOfMemory(advice)


def is_out_of_memory(error: BaseException) -> bool:
    """Of the device or of the machine, in all the ways in which torch says so."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in OUT_OF_MEMORY)


def give_memory_back() -> None:
    """Modules refer to themselves in circles, and CUDA's allocator and Linux's C library keep what was freed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if trim := getattr(C_LIBRARY, "malloc_trim", None):
        trim(0)
