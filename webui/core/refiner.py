"""The refiner as a part of a request, and in infotext under A1111's names: a second checkpoint that makes the last steps."""

from collections.abc import Iterator
from dataclasses import dataclass

from webui.core.checkpoint_text import checkpoint_items, read_checkpoint
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.key_values import Values, written

NONE = "None"  # as its checkpoint: no refiner, before completion
HIRES_PASSES = ("first pass", "second pass", "both passes")


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """From `switch_at` on, another checkpoint goes on with the same latents."""

    checkpoint: str  # name in the catalog
    checkpoint_hash: str = ""  # first 10 hex digits of the file's sha256
    prediction_type: str = ""  # as in GenerationRequest
    switch_at: float = 0.8  # 0 .. 1: share of the way from pure noise to the clean picture, in training timesteps; 1: never
    by_steps: bool = False  # the share is one of the run's network calls instead
    hires_pass: str = "second pass"  # one of HIRES_PASSES: which it is for where there is hires fix

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        value = self.switch_at
        if not self.checkpoint:
            raise BadRequest("no checkpoint is chosen for the refiner: choose one, or switch the refiner off")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:  # NaN fails too
            raise BadRequest(f"refiner switch at {value} is out of range: use 0 to 1")
        if self.hires_pass not in HIRES_PASSES:
            raise BadRequest(f"hires refiner {self.hires_pass[:50]!r} is not known; choose one of: {', '.join(HIRES_PASSES)}")
        if self.prediction_type not in ("", "Automatic", *PREDICTION_TYPES):
            raise BadRequest(f"prediction type {self.prediction_type[:50]!r} of the refiner is not known")

    def is_for(self, number: int) -> bool:
        """Whether it is for hires fix's pass `number`, 0 or 1."""
        return self.hires_pass in (HIRES_PASSES[number], HIRES_PASSES[2])


def refiner_items(refiner: Refiner) -> Iterator[tuple[str, str]]:
    """What stands in the infotext."""
    yield from checkpoint_items("Refiner", refiner.checkpoint, refiner.checkpoint_hash)
    yield "Refiner switch at", written(refiner.switch_at)
    if refiner.by_steps:
        yield "Refiner switch by sampling steps", "True"
    if refiner.hires_pass != Refiner.hires_pass:
        yield "Hires refiner", refiner.hires_pass
    if refiner.prediction_type not in ("", "Automatic"):
        yield "Refiner prediction type", refiner.prediction_type


def read_refiner(values: Values, ours: bool) -> Refiner | None:
    """What an infotext says of it; its keys are taken. ours: whether Easel wrote it."""
    checkpoint, digits = read_checkpoint(values, "Refiner", ours)
    switch_at = values.number("Refiner switch at", Refiner.switch_at, 0, 1)
    by_steps = values.text("Refiner switch by sampling steps") == "True"
    hires_pass = values.choice("Hires refiner", HIRES_PASSES, Refiner.hires_pass)
    predicts = values.choice("Refiner prediction type", PREDICTION_TYPES, "")
    if not checkpoint or (checkpoint == NONE and not ours):
        return None
    return Refiner(
        checkpoint=checkpoint,
        checkpoint_hash=digits,
        prediction_type=predicts,
        switch_at=switch_at,
        by_steps=by_steps,
        hires_pass=hires_pass,
    )
