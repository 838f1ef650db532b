"""Aesthetic gradients (arXiv:2209.12330) as a part of a request, and in infotext under the names that the original extension gave."""

from collections.abc import Iterator
from dataclasses import dataclass

from webui.core.errors import BadRequest
from webui.core.key_values import Values

MAX_TEXT = 10_000  # characters


@dataclass(frozen=True, kw_only=True)
class Aesthetic:
    """Tune the text encoder towards an aesthetic embedding, for one prompt alone."""

    embedding: str  # name in models/aesthetic_embeddings
    weight: float = 0.9  # of the tuned text states, 0 .. 1; the rest are the untuned ones'
    steps: int = 5  # of tuning, 0 .. 100
    learning_rate: float = 0.0001  # 0 .. 1
    slerp: bool = False  # mix tuned and untuned states on an arc, not on a line
    text: str = ""  # turns the embedding towards its meaning; "" leaves it as it is
    text_negative: bool = False  # away from the text instead
    slerp_angle: float = 0.1  # how far the text turns it, 0 .. 1

    @property
    def changes_nothing(self) -> bool:
        """Whether the pictures are those without it."""
        return not (self.weight and self.steps and self.learning_rate)

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        if not self.embedding:
            raise BadRequest("aesthetic gradients need an embedding; choose one of models/aesthetic_embeddings or leave them off")
        for name, (key, least, most) in NUMBERS.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN fails too
                raise BadRequest(f"{key} {value} is out of range: use {least} to {most}")
        if not isinstance(self.steps, int):
            raise BadRequest(f"Aesthetic steps {self.steps} is not a whole number")
        if len(self.text) > MAX_TEXT:
            raise BadRequest(f"the aesthetic text has {len(self.text)} characters; at most {MAX_TEXT} are taken: shorten it")


NUMBERS = {
    "learning_rate": ("Aesthetic LR", 0, 1),
    "weight": ("Aesthetic weight", 0, 1),
    "steps": ("Aesthetic steps", 0, 100),
    "slerp_angle": ("Aesthetic slerp angle", 0, 1),
}


def aesthetic_items(aesthetic: Aesthetic) -> Iterator[tuple[str, str]]:
    """What stands in the infotext, in the extension's order."""
    yield "Aesthetic LR", repr(aesthetic.learning_rate)
    yield "Aesthetic weight", repr(aesthetic.weight)
    yield "Aesthetic steps", repr(aesthetic.steps)
    yield "Aesthetic embedding", aesthetic.embedding
    yield "Aesthetic slerp", str(aesthetic.slerp)
    if aesthetic.text:
        yield "Aesthetic text", aesthetic.text
    yield "Aesthetic text negative", str(aesthetic.text_negative)
    yield "Aesthetic slerp angle", repr(aesthetic.slerp_angle)


def read_aesthetic(values: Values) -> Aesthetic | None:
    """What an infotext says of aesthetic gradients; all of their keys are taken."""

    def number(name: str) -> float:
        return values.number(NUMBERS[name][0], getattr(Aesthetic, name), *NUMBERS[name][1:])

    embedding = values.text("Aesthetic embedding")
    aesthetic = Aesthetic(
        embedding=embedding,
        weight=number("weight"),
        steps=int(number("steps")),
        learning_rate=number("learning_rate"),
        slerp=values.text("Aesthetic slerp") == "True",
        text=values.text("Aesthetic text")[:MAX_TEXT],
        text_negative=values.text("Aesthetic text negative") == "True",
        slerp_angle=number("slerp_angle"),
    )
    return aesthetic if embedding not in ("", "None") else None
