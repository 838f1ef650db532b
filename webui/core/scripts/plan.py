"""What a script makes of a request: the requests to carry out one after the other, and the sheet on which their pictures are laid out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from webui.core.request import GenerationRequest, known_fields

PREVIOUS = "previous"  # in place of an init image's sha256: the picture that the request before has made
MAX_STEPS = 1000  # requests in one plan
Draw = Callable[[], int]  # a new random seed


@dataclass(frozen=True)
class Line:
    """A line of a label; what does not count in its row or column is struck out."""

    text: str
    counts: bool = True


Label = tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pictures in columns and rows, on one or several planes side by side.

    cells: for each place, plane by plane and row by row, the index of the step whose picture lies there.
    """

    columns: tuple[Label, ...] = ((),)
    rows: tuple[Label, ...] = ((),)
    planes: tuple[Label, ...] = ((),)
    cells: tuple[int, ...]
    legend: bool = True  # whether the labels are drawn
    margin: int = 0  # pixels between pictures
    parts: bool = False  # whether each plane becomes a picture of its own, too
    lone: bool = True  # whether the single pictures stand beside the sheet in the result
    facts: tuple[tuple[str, str], ...] = ()  # what its infotext says beyond its first picture's

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal sheet."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Sheet":
        values = known_fields(cls, data)
        for axis in ("columns", "rows", "planes"):
            values[axis] = tuple(tuple(Line(**known_fields(Line, line)) for line in label) for label in values[axis])
        values["cells"] = tuple(values["cells"])
        values["facts"] = tuple((str(key), str(value)) for key, value in values["facts"])
        return cls(**values)


@dataclass(frozen=True)
class Step:
    """One request of a plan. name: for people, such as "Steps: 20, CFG Scale: 7.0"."""

    name: str
    request: GenerationRequest


@dataclass(frozen=True)
class Plan:
    """Steps in the order of the result."""

    steps: tuple[Step, ...]
    sheet: Sheet | None = None


def making_order(requests: Sequence[GenerationRequest]) -> list[int]:
    """Indices in the order of making: each checkpoint is loaded once, each VAE once per checkpoint, and pictures with the same refiner
    or the same checkpoint of hires fix follow one another; otherwise as they come."""
    first: dict[tuple[str, ...], int] = {}
    for index, request in enumerate(requests):
        for models in _models(request):
            first.setdefault(models, index)

    def costs(index: int) -> tuple[int, ...]:
        return (*(first[models] for models in _models(requests[index])), index)

    return sorted(range(len(requests)), key=costs)


def _models(request: GenerationRequest) -> tuple[tuple[str, ...], ...]:
    """What has to be loaded for a request, the dearest first."""
    refiner = request.refiner.checkpoint if request.refiner else ""
    again = request.hires.checkpoint if request.hires else ""
    names = request.checkpoint, request.vae, refiner, again
    return tuple(names[:count] for count in range(1, len(names) + 1))
