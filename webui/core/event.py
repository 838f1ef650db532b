"""What a running job tells, and how it is told to stop. Plain picklable data: events cross a process boundary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from webui.core.extras import ExtrasRequest
from webui.core.request import GenerationRequest


@dataclass(frozen=True)
class Loading:
    """The job waits for something that is not sampling: a checkpoint being read, for instance."""

    text: str
    fraction: float | None = None  # how much of it is done, 0 .. 1; None: nobody counts

    @property
    def line(self) -> str:
        """For people: "loading a.safetensors, 40 %"."""
        return self.text if self.fraction is None else f"{self.text}, {int(self.fraction * 100)} %"


@dataclass(frozen=True)
class Notice:
    """A sentence that the user should read; the job goes on."""

    text: str


@dataclass(frozen=True)
class Progress:
    """Step `step` of `steps` of batch `batch` of `batches` is done (step and batch count from 1; step 0: it begins)."""

    batch: int
    batches: int
    step: int
    steps: int
    text: str = ""  # what is done, for people, where it is not sampling
    whole: float | None = None  # how much of the whole job is done, 0 .. 1, where batches differ; None: all take as long

    @property
    def fraction(self) -> float:
        """How much of the whole job is done, 0 .. 1."""
        if self.whole is not None:
            return self.whole
        return (self.batch - 1 + self.step / max(self.steps, 1)) / max(self.batches, 1)


@dataclass(frozen=True)
class Preview:
    """The predicted clean picture at this step, small: JPEG bytes, longer side at most 384 px."""

    jpeg: bytes


@dataclass(frozen=True)
class Picture:
    """One finished picture: RGB; `request` makes this picture alone; `infotext` is what its file carries; `facts`: "files" and
    "environment" of its recipe, where they are known. A sheet shows pictures of its job, the first of which has `request`; it carries no
    recipe, nor do pictures that were only made larger. `place`: where it stands among the job's pictures, or among its sheets; equal
    places: as they come. `texts`: what else its file carries, by name."""

    image: Image.Image
    request: GenerationRequest | ExtrasRequest
    infotext: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    sheet: bool = False
    place: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """The pictures of one finished batch."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Record:
    """A file of what the job found out, to be kept under its name with the job: JSON, WebP, npz or raw bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Finished:
    """The job ended without an error; `interrupted` when it was told to stop before its end."""

    interrupted: bool = False


@dataclass(frozen=True)
class Failed:
    """The job ended with an error; `status` is the HTTP status of errors.py, `message` the sentence for the user, `name` the class."""

    message: str
    status: int = 500
    name: str = "EngineError"


Event = Loading | Notice | Progress | Preview | Pictures | Record | Finished | Failed


class Control(Protocol):
    """Asked by the running job after every step."""

    @property
    def interrupted(self) -> bool:
        """True: stop after this step; finished pictures are kept."""
        ...

    @property
    def previews(self) -> bool:
        """Whether anybody looks: False saves the cost of previews."""
        ...

    def take_skip(self) -> bool:
        """True once for each Skip: drop this batch and go on with the next."""
        ...
