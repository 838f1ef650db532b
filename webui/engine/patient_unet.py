"""A model's UNet for the length of a job: on the device when it works, in smaller portions where memory runs out, in fp32 where 16 bits
overflow."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import OutOfMemory
from webui.engine.device import memory_sentence
from webui.engine.ladders import give_memory_back, with_less_memory
from webui.engine.model import DiffusionModel, first_weight
from webui.engine.patches.borrowed_weights import borrowed_weights
from webui.engine.patches.careful_attention import careful_attention
from webui.engine.placement import CPU, moved

FACTOR = 8  # pixels a side for one latent
log = logging.getLogger(__name__)


class PatientUnet:
    """Is called as the UNet itself. What it gave up for want of memory or range stays given up until the job ends."""

    def __init__(self, model: DiffusionModel, free_caches: Callable[[], None] = give_memory_back) -> None:
        """free_caches: lets go of all that can be had again, when memory runs out for the first time."""
        self._model, self._unet, self._free_caches = model, model.unet, free_caches
        self._wide = self._sliced = self._streamed = False
        self._most: int | None = None  # rows at once; None: all
        self._notice = ""
        self._patches = ExitStack()

    @property
    def dtype(self) -> torch.dtype:
        """The type in which it takes and gives numbers."""
        return torch.float32 if self._wide else first_weight(self._unet).dtype

    def widen(self) -> bool:
        """Work in fp32 from the next `at_work` on, with the weights as they are; False where it does already."""
        widens = self.dtype != torch.float32
        self._wide = True
        return widens

    def take_notices(self) -> tuple[str, ...]:
        """The sentence for the user about what was given up last, told once."""
        told, self._notice = self._notice, ""
        return (told,) if told else ()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block it may be called. Afterwards the model is as before, where it lies and in which numbers."""
        with ExitStack() as patches:
            self._patches = patches
            patches.enter_context(self._model.unet_at_work())
            if self._streamed:
                self._stream()
            if self._wide:
                patches.enter_context(borrowed_weights(self._unet, dtype=torch.float32))
            if self._sliced or self._upcast:
                patches.enter_context(careful_attention(self._unet, upcast=self._upcast, sliced=self._sliced))
            yield

    def __call__(self, x: Tensor, timestep: Tensor, **conditions: Any) -> Any:
        """As the UNet's own call with return_dict=False. Raises OutOfMemory where one row at a time, layer by layer, is too much."""
        attempts = (partial(self._answer, x, timestep, conditions) for _ in self._ever_less(len(x)))
        try:
            return with_less_memory(attempts, "")
        except OutOfMemory:
            size = f"{x.shape[3] * FACTOR}x{x.shape[2] * FACTOR}"
            raise OutOfMemory(
                f"memory ran out in the UNet at {size} pixels, for one picture at a time, too: {memory_sentence(x.device)}; "
                "make the picture smaller, or close other programs"
            ) from None

    @property
    def _upcast(self) -> bool:
        """SD 2's UNets for v-prediction were made with attention in fp32, and overflow in fp16 without."""
        narrow = self.dtype == torch.float16 and self._model.family.prediction_type == "v_prediction"
        return narrow and bool(self._unet.config.get("upcast_attention"))

    def _ever_less(self, rows: int) -> Iterator[None]:
        """Before each, less memory is needed than before the last."""
        yield
        if self._most is None:
            self._free_caches()
            yield
        while (most := min(self._most or rows, rows)) > 1:  # prompt and negative prompt apart, then fewer pictures at once
            self._most = (most + 1) // 2
            self._say(f"the UNet sees {self._most} of {rows} latents at once")
            yield
        if not self._sliced:
            self._sliced, self._most = True, 1
            self._say("attention is worked out in slices")
            self._patches.enter_context(careful_attention(self._unet, upcast=self._upcast, sliced=True))
            yield
        if not self._streamed and first_weight(self._unet).device != CPU:
            self._say("the UNet's weights come from main memory layer by layer")
            self._stream()
            yield

    def _say(self, what: str) -> None:
        self._notice = f"memory ran out: {what} for the rest of this job, which is slower; smaller or fewer pictures would do without"
        log.warning(self._notice)

    def _stream(self) -> None:
        self._streamed = True
        self._patches.enter_context(moved(self._unet, CPU))
        self._patches.enter_context(borrowed_weights(self._unet, device=self._model.device))

    def _answer(self, x: Tensor, timestep: Tensor, conditions: Mapping[str, Any]) -> tuple[Tensor]:
        most = self._most or len(x)
        if most >= len(x):  # the very objects: text keys are remembered by them
            return self._unet(x, timestep, **conditions)
        portions = [slice(start, start + most) for start in range(0, len(x), most)]
        return (torch.cat([self._unet(x[rows], timestep, **_rows(conditions, rows))[0] for rows in portions]),)


def _rows(conditions: Any, rows: slice) -> Any:
    """These rows of every tensor, in dictionaries too."""
    if isinstance(conditions, Mapping):
        return {name: _rows(value, rows) for name, value in conditions.items()}
    return conditions[rows] if isinstance(conditions, Tensor) else conditions
