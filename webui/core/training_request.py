"""What a training job is asked: to make an embedding, a hypernetwork or a LoRA, to train it on a folder of pictures, or both; or to make
an aesthetic embedding of such a folder."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadRequest
from webui.core.learning_rate import Plan, check_plan
from webui.core.limits import MAX_SEED, MAX_SIDE
from webui.core.model_orders import check_file_name
from webui.core.request import known_fields

KINDS = ("embedding", "hypernetwork", "lora", "aesthetic")
WEIGHT_INITS = ("Normal", "KaimingNormal", "KaimingUniform", "XavierNormal", "XavierUniform")
MAX_VECTORS = 75
MAX_TEXT = 1000  # characters
LIMITS: tuple[tuple[str, float, float], ...] = (
    ("steps", 0, 1_000_000),
    ("batch_size", 1, 64),
    ("width", 64, MAX_SIDE),
    ("height", 64, MAX_SIDE),
    ("vectors", 1, MAX_VECTORS),
    ("tag_drop_out", 0, 1),
    ("learning_rate", 0, 100),
    ("rank", 1, 256),
    ("sample_every", 0, 1_000_000),
    ("seed", 0, MAX_SEED),
)


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """One file to be made or trained. `create` makes it anew, `steps` above 0 train it on the pictures in `data_root`."""

    kind: str  # one of KINDS
    name: str  # of the file, without ending
    checkpoint: str = ""  # in the catalog; "" before completion: the preferred one
    text_encoder: str = ""  # as of a GenerationRequest
    create: bool = False
    overwrite: bool = False  # whether `create` may take the place of a file
    vectors: int = 1  # of a new embedding
    init_text: str = "*"  # words with whose vectors a new embedding begins
    widths: tuple[int, ...] = (768, 320, 640, 1280)  # of the contexts for which a new hypernetwork has nets; (): of the texts
    layer_structure: tuple[float, ...] = (1, 2, 1)
    activation: str = "linear"
    weight_init: str = "Normal"  # one of WEIGHT_INITS
    rank: int = 16  # of a LoRA's matrices
    layer_norm: bool = False
    dropout: tuple[float, ...] = ()  # after each layer; (): none
    data_root: str = ""  # folder with pictures, below the data folder
    template: str = ""  # name of a template of captions; "": the pictures' own captions
    steps: int = 0
    learning_rate: float = 0.005  # rises at the beginning, then falls to 0 at the last step
    learning_plan: Plan = ()  # takes its place, to the letter; () for none
    batch_size: int = 1
    width: int = 512  # pixels; the pictures are cut to this
    height: int = 512
    shuffle_tags: bool = False
    tag_drop_out: float = 0.0  # share of a caption's tags that is left out at random
    max_norm: float = 0.0  # of the gradients; 0: the loop's own
    sample_every: int = 0  # steps after which a picture shows what was learnt; 0: never
    sample_prompt: str = ""  # of that picture
    seed: int = 1

    @property
    def title(self) -> str:
        """What is done, for people."""
        what = "aesthetic embedding" if self.kind == "aesthetic" else self.kind
        return f"Train {what} {self.name}, {self.steps} steps" if self.steps else f"Make {what} {self.name}"

    def validate(self) -> None:
        """Raises BadRequest with the field, its value and what to do."""
        if self.kind not in KINDS:
            raise BadRequest(f"{self.kind[:50]!r} cannot be trained; choose one of: {', '.join(KINDS)}")
        if not self.name:
            raise BadRequest(f"the {self.kind} has no name; give it one")
        check_file_name(self.name)
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if not least <= value <= most:  # NaN fails too
                raise BadRequest(f"{name.replace('_', ' ')} {value} is out of range: use {least} to {most}")
        check_plan(self.learning_plan)
        if self.width % 8 or self.height % 8:
            raise BadRequest(f"training pictures of {self.width}x{self.height} have sides that are no multiples of 8; choose others")
        if self.weight_init not in WEIGHT_INITS:
            raise BadRequest(f"weight init {self.weight_init[:50]!r} is not known; choose one of: {', '.join(WEIGHT_INITS)}")
        if len(self.init_text) > MAX_TEXT or not math.isfinite(self.max_norm) or self.max_norm < 0:
            raise BadRequest(f"the initialisation text is longer than {MAX_TEXT} characters, or the limit of gradients is no number")
        if self.kind == "lora" and not self.steps:
            raise BadRequest("a LoRA is made and trained in one go; ask for steps")
        if len(self.sample_prompt) > MAX_TEXT:
            raise BadRequest(f"the prompt of samples is longer than {MAX_TEXT} characters; shorten it")
        if self.kind == "aesthetic" and (self.steps or not self.create or not self.data_root):
            raise BadRequest("an aesthetic embedding is the mean of its pictures: ask for a new file out of a folder, and for no steps")
        if self.steps and not self.data_root:
            raise BadRequest("training needs data_root: a folder with pictures below the data folder")

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal request."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TrainingRequest":
        values = known_fields(cls, data)
        for name in ("widths", "layer_structure", "dropout"):
            values[name] = tuple(values.get(name, getattr(cls, name)))
        values["learning_plan"] = tuple((rate, step) for rate, step in values.get("learning_plan", ()))
        return cls(**values)


def folder_below(root: Path, text: str) -> Path:
    """The folder that `text` names, relative to `root` or in full. Raises BadRequest unless it lies below `root`, links resolved.

    What lies elsewhere is answered as what does not exist, so that nothing can be learnt about it.
    """
    try:
        home = root.resolve()
        folder = (home / text).resolve()
        found = folder.is_relative_to(home) and folder != home and folder.is_dir()
    except (OSError, ValueError, RuntimeError):
        found = False
    if not found:
        raise BadRequest(f"there is no folder {text[:200]!r} below the data folder; put the pictures into a folder there and name that")
    return folder
