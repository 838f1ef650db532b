"""Text encoders that stand in for those that a checkpoint lacks: which ones a family needs, and the files in models/text_encoder/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.diffusers_folder import weight_files
from webui.core.errors import BadModelFile, EaselError, MissingModel
from webui.core.family import Shapes
from webui.core.model_listing import ModelFile, list_models, without_ending
from webui.core.settings import Settings
from webui.core.torch_outline import read_shapes

ENDINGS = (".safetensors", ".bin", ".pt", ".ckpt")
TOKENS = "token_embedding.weight"  # (words, width): the end of its name in every layout
SEPARATOR = ", "  # between names in one text


@dataclass(frozen=True)
class EncoderKind:
    """title: the field's name for it; width: of its states, which tells it from the others; component: of a diffusers folder;
    preference: which names the file that stands in for a missing one."""

    title: str
    width: int
    component: str
    preference: str


CLIP_L = EncoderKind("CLIP-L", 768, "text_encoder", "text_encoder_clip_l")
CLIP_H = EncoderKind("OpenCLIP-H", 1024, "text_encoder", "text_encoder_clip_h")
CLIP_G = EncoderKind("OpenCLIP-G", 1280, "text_encoder_2", "text_encoder_clip_g")
KINDS = (CLIP_L, CLIP_H, CLIP_G)
NEEDED: dict[str, tuple[EncoderKind, ...]] = {  # Family.config -> in the order in which their states are joined
    "sd1": (CLIP_L,),
    "sd2": (CLIP_H,),
    "sdxl": (CLIP_L, CLIP_G),
    "sdxl_refiner": (CLIP_G,),
}


def token_weights(shapes: Shapes) -> dict[int, str]:
    """Width -> name of the token embedding, of each text encoder among tensors of these names and shapes, in whatever layout."""
    found: dict[int, str] = {}
    for name, shape in shapes.items():
        if (name == TOKENS or name.endswith(f".{TOKENS}")) and len(shape) == 2:
            found.setdefault(shape[1], name)
    return found


def lacks(name: str, kinds: Sequence[EncoderKind]) -> str:
    """What is said of the checkpoint `name`, for which there is no text encoder of these kinds."""
    titles = " and ".join(kind.title for kind in kinds)
    return (
        f"{name} has no text encoder {titles}; get the complete checkpoint, or put a file with {titles} into models/text_encoder/ "
        "and choose it in the settings, under Models"
    )


def fits_not(name: str, widths: Sequence[int], checkpoint: str, wanted: EncoderKind) -> str:
    """What is said of the file `name` with text encoders of these widths, which was chosen for `wanted`, which the checkpoint lacks."""
    held = " and ".join(f"a text encoder of width {width}{_called(width)}" for width in widths) or "no text encoder"
    return f"{name} holds {held}; {checkpoint} needs {wanted.title}, of width {wanted.width}: choose another file"


def _called(width: int) -> str:
    return next((f" ({kind.title})" for kind in KINDS if kind.width == width), "")


class TextEncoders:
    """The files in models/text_encoder/, as the folder stands now; each is looked into once. Safe to use from several threads."""

    def __init__(self, settings: Settings):
        self._folder = settings.text_encoder_dir
        self._widths: dict[tuple[Path, float, int], tuple[int, ...]] = {}

    def listed(self, kind: EncoderKind | None = None) -> list[ModelFile]:
        """Those that hold an encoder of the kind; all files for None."""
        files = list_models((self._folder,), ENDINGS)
        return [file for file in files if kind is None or kind.width in self.widths(file)]

    def widths(self, file: ModelFile) -> tuple[int, ...]:
        """Of the text encoders in a model file, () where it cannot be read."""
        key = (file.path, file.mtime, file.size)
        if key not in self._widths:
            try:
                self._widths[key] = tuple(token_weights(read_shapes(file.path)))
            except EaselError:
                return ()
        return self._widths[key]

    def find(self, text: str, kind: EncoderKind | None = None) -> ModelFile:
        """By name, with or without ending, or by its folder, where it lies there alone, or alone of its kind. Raises MissingModel."""
        wanted, files = text.strip(), self.listed()
        for fold in (str, str.casefold):
            for file in files:
                if fold(wanted) in map(fold, (file.name, without_ending(file.name), file.path.name, file.stem)):
                    return file
        inside = [file for file in files if file.name.startswith(wanted.rstrip("/") + "/") and self.widths(file)]
        fitting = [file for file in inside if kind and kind.width in self.widths(file)]
        for found in (fitting, inside):
            if len(found) == 1:
                return found[0]
        known = ", ".join(file.name for file in files)[:600] or "there is none yet"
        raise MissingModel(f"text encoder {wanted[:200]!r} is not in {self._folder}; put its file there, or choose another ({known})")

    def checked(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Of preferences those that name text encoders, as they are called here. Raises MissingModel, BadModelFile."""
        return {kind.preference: self.preferred(kind, str(values[kind.preference])) for kind in KINDS if kind.preference in values}

    def preferred(self, kind: EncoderKind, text: str) -> str:
        """The name of the file that `text` names, "" for none. Raises MissingModel; BadModelFile where it holds none of the kind."""
        if not text.strip():
            return ""
        file = self.find(text, kind)
        if kind.width not in (widths := self.widths(file)):
            raise BadModelFile(fits_not(file.name, widths, kind.preference, kind))
        return file.name

    def lacking(self, checkpoint: ModelFile) -> tuple[EncoderKind, ...]:
        """The text encoders that the checkpoint's family needs and its file does not hold; () also where nothing tells."""
        needed = NEEDED.get(checkpoint.family.config, ()) if checkpoint.family else ()
        if checkpoint.path.is_dir():
            return tuple(kind for kind in needed if not _has_weights(checkpoint.path / kind.component))
        held = self.widths(checkpoint) if needed else ()
        unread = (checkpoint.path, checkpoint.mtime, checkpoint.size) not in self._widths
        return () if unread else tuple(kind for kind in needed if kind.width not in held)

    def stand_ins(self, checkpoint: ModelFile, asked: str, noted: str, preferences: Mapping[str, Any]) -> str:
        """The names of the files that stand in for what the checkpoint lacks, in one text; "" where it lacks nothing, or nothing is chosen.

        asked: names in one text, which count most; noted: those on the checkpoint's card. Raises MissingModel, BadModelFile.
        """
        names, lacking = [], self.lacking(checkpoint)
        for kind in lacking:
            wishes = [*names_in(asked), *names_in(noted), *names_in(str(preferences[kind.preference]))]
            files = [self.find(name, kind) for name in wishes]
            fitting = [file for file in files if kind.width in self.widths(file)]
            useless = [file for file in files if not {kind.width for kind in lacking} & set(self.widths(file))]
            if not fitting and useless:
                raise BadModelFile(fits_not(useless[0].name, self.widths(useless[0]), checkpoint.name, kind))
            names += [file.name for file in fitting[:1]]  # where there is none, loading says so
        return SEPARATOR.join(dict.fromkeys(names))

    def without_absent(self, checkpoints: Sequence[ModelFile], told: str, noted: Sequence[str], preferences: Mapping[str, Any]) -> str:
        """Of names that an infotext tells, in one text, those that are here, where what each checkpoint lacks is chosen all the same.

        noted: those on each checkpoint's card. Else all of them, so that `stand_ins` says which file is missing. Raises MissingModel,
        BadModelFile.
        """
        if not any(map(self.lacking, checkpoints)):
            return told
        here = SEPARATOR.join(name for name in names_in(told) if self._is_here(name))
        chosen = (self.stand_ins(each, here, card, preferences) for each, card in zip(checkpoints, noted, strict=True))
        enough = all(self._holds_all(names, self.lacking(each)) for each, names in zip(checkpoints, chosen, strict=True))
        return here if enough else told

    def _is_here(self, name: str) -> bool:
        try:
            return bool(self.find(name))
        except MissingModel:
            return False

    def _holds_all(self, names: str, kinds: Sequence[EncoderKind]) -> bool:
        held = {width for name in names_in(names) for width in self.widths(self.find(name))}
        return all(kind.width in held for kind in kinds)

    def paths(self, names: str) -> tuple[Path, ...]:
        """Of the files that `stand_ins` named. Raises MissingModel."""
        return tuple(self.find(name).path for name in names_in(names))


def names_in(names: str) -> list[str]:
    """The names in one text."""
    return [name for name in names.split(SEPARATOR) if name.strip()]


def _has_weights(folder: Path) -> bool:
    try:
        return bool(weight_files(folder))
    except MissingModel:
        return False
    except BadModelFile:  # in pieces, some of which are missing: loading says it
        return True
