"""What the X-ray is asked: a request, and the study that is made of it. Plain data, checked before anything runs."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from webui.core.errors import BadRequest
from webui.core.limits import MAX_PROMPT, MAX_SEED, MAX_STEPS
from webui.core.networks import extract_networks
from webui.core.prompt_pieces import MAX_PIECES, PIECES, pieces
from webui.core.request import GenerationRequest, known_fields

LAST_TIMESTEP = 999  # of training; noise of it hides a picture all but wholly
MOST_TIMESTEPS = 24
MOST_PICTURES = 24  # of an interpolation
WAYS = ("slerp", "lerp")  # along the arc between two conditionings, or the straight line


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Look on while the picture is made; of several the first. steps: those whose latents and maps are kept, from 1; none: all. layers: of
    cross-attention, by name; none: all. first: the pictures were not made before, so they are the job's own, as without the study."""

    steps: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()
    attention: bool = True
    first: bool = False

    @property
    def title(self) -> str:
        """What is done, for people."""
        return "X-ray"

    def check(self, base: GenerationRequest) -> None:
        """Raises BadRequest."""
        if len(self.steps) > MAX_STEPS or not all(_is_whole(step) and step >= 1 for step in self.steps):
            raise BadRequest("the steps to record are whole numbers from 1; leave them out to record all")
        if not all(isinstance(name, str) for name in self.layers):
            raise BadRequest("the layers to record are names; leave them out to record all")


@dataclass(frozen=True, kw_only=True)
class Noising:
    """The forward process on a picture: what the VAE keeps of it, and what noise of some training timesteps leaves."""

    image: str = ""  # sha256 in the input store
    timesteps: tuple[int, ...] = (0, 50, 100, 200, 400, 600, 800, 999)

    @property
    def title(self) -> str:
        return "Noise on a picture"

    def check(self, base: GenerationRequest) -> None:
        if not self.image:
            raise BadRequest("there is no picture to lay noise on; open one")
        if not 1 <= len(self.timesteps) <= MOST_TIMESTEPS:
            raise BadRequest(f"{len(self.timesteps)} noise levels are asked for; choose 1 to {MOST_TIMESTEPS}")
        for t in self.timesteps:
            if not _is_whole(t) or not 0 <= t <= LAST_TIMESTEP:
                raise BadRequest(f"noise level {t} is no training timestep: use 0 to {LAST_TIMESTEP}")


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Pictures on the way from the request to one with another prompt, another seed, or both."""

    prompt: str = ""  # at the other end; "": the same
    seed: int = -1  # at the other end; -1: the same
    way: str = WAYS[0]  # between the prompts' conditionings; noise always goes along the arc
    pictures: int = 6

    @property
    def title(self) -> str:
        return "Between two"

    def check(self, base: GenerationRequest) -> None:
        if not _is_whole(self.pictures) or not 2 <= self.pictures <= MOST_PICTURES:
            raise BadRequest(f"{self.pictures} pictures are asked for; choose 2 to {MOST_PICTURES}")
        if self.way not in WAYS:
            raise BadRequest(f"the way is {self.way[:50]!r}; choose one of: {', '.join(WAYS)}")
        if not _is_whole(self.seed) or not -1 <= self.seed <= MAX_SEED:
            raise BadRequest(f"the other seed is {self.seed}: use 0 to {MAX_SEED}, or -1 for the same")
        if self.seed == -1 and not self.prompt.strip():
            raise BadRequest("there is nothing to go to: give another prompt or another seed")
        if self.seed != -1 and base.variation_strength:
            raise BadRequest("this picture lies between two seeds already: start from one that is no variation")
        if len(self.prompt) > MAX_PROMPT:
            raise BadRequest(f"the other prompt has {len(self.prompt)} characters; at most {MAX_PROMPT} are taken: shorten it")
        if self.prompt and extract_networks(self.prompt)[1] != extract_networks(base.prompt)[1]:
            raise BadRequest("both prompts must call the same LoRAs and hypernetworks with the same weights: write the same tags into both")


@dataclass(frozen=True, kw_only=True)
class WordRanking:
    """How much the picture changes without each piece of its prompt."""

    by: str = PIECES[0]  # one of PIECES
    steps: int = 8  # of each short run, at most those of the request

    @property
    def title(self) -> str:
        return "Which words matter"

    def check(self, base: GenerationRequest) -> None:
        if self.by not in PIECES:
            raise BadRequest(f"a prompt cannot be taken apart by {self.by[:50]!r}; choose one of: {', '.join(PIECES)}")
        if not _is_whole(self.steps) or not 1 <= self.steps <= MAX_STEPS:
            raise BadRequest(f"steps {self.steps} is out of range: use 1 to {MAX_STEPS}")
        count = len(pieces(base.prompt, self.by))
        if not 1 <= count <= MAX_PIECES:
            raise BadRequest(f"the prompt has {count} {self.by}; 1 to {MAX_PIECES} can be ranked")


XrayStudy = Recording | Noising | Interpolation | WordRanking
STUDIES: dict[str, type[Recording] | type[Noising] | type[Interpolation] | type[WordRanking]] = {
    "recording": Recording,
    "noising": Noising,
    "interpolation": Interpolation,
    "words": WordRanking,
}


def study_of(kind: str, told: dict[str, Any]) -> XrayStudy:
    """The study of a kind out of plain data. Raises BadRequest for a kind that there is not, and for fields of another shape."""
    if kind not in STUDIES:
        raise BadRequest(f"there is no study {kind[:50]!r}; choose one of: {', '.join(STUDIES)}")
    given = known_fields(STUDIES[kind], told)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    expected = asdict(STUDIES[kind]())
    for name, value in values.items():
        if type(value) is not type(expected[name]):
            raise BadRequest(f"{name} is {str(value)[:50]!r}, which is not of the kind that {kind} takes")
    return STUDIES[kind](**values)


@dataclass(frozen=True, kw_only=True)
class XrayRequest:
    """One study of one picture's request."""

    base: GenerationRequest
    study: XrayStudy = field(default_factory=Recording)

    @property
    def kind(self) -> str:
        """The study's name in STUDIES."""
        return next(name for name, kind in STUDIES.items() if type(self.study) is kind)

    @property
    def makes_pictures(self) -> bool:
        """Whether they are for the gallery."""
        return isinstance(self.study, Recording) and self.study.first

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"{self.study.title}: {' '.join(self.base.prompt.split())[:60]}" if self.base.prompt.strip() else self.study.title

    def validate(self) -> None:
        """Raises BadRequest with the field, its value and what to do."""
        self.base.validate()
        self.study.check(self.base)

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal request."""
        return {"base": self.base.to_json(), "kind": self.kind, "study": asdict(self.study)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "XrayRequest":
        return cls(base=GenerationRequest.from_json(data["base"]), study=study_of(data["kind"], data["study"]))

    @classmethod
    def of(cls, base: GenerationRequest, study: XrayStudy) -> "XrayRequest":
        """A study of the first picture of a request."""
        single = base.single(0)
        return cls(base=replace(single, hires=None) if isinstance(study, Interpolation | WordRanking) else single, study=study)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
