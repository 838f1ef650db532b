"""Embeddings (textual inversion): words of a user's own, whose vectors come from a file and stand in a prompt like any word's.

Files: `.pt` of A1111 ("string_to_param"), diffusers' `.bin` and `.safetensors` ({word: vectors}), kohya's ("emb_params"), and SDXL's, with
vectors for both text encoders ("clip_l", "clip_g"). A prompt calls an embedding by its file's bare name; names are compared as tokens,
so neither case nor spaces count, and of two names that fit the longer wins.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.engine.model import DiffusionModel
from webui.engine.model_file import ModelFile, ReadAs, TensorsInMemory, open_tensors

MAX_VECTORS = 75  # of one embedding: those of a whole chunk
MAX_WIDTH = 8192  # of a vector; SDXL's widest have 1280
BOTH = ("clip_l", "clip_g")  # the tensors of SDXL's embeddings, in the order of its text encoders
NESTED = "string_to_param."  # before the word in A1111's files
KINDS = {(768,): "SD 1.x", (1024,): "SD 2.x", (768, 1280): "SDXL", (1280,): "the SDXL refiner"}


@dataclass(frozen=True, eq=False)
class Embedding:
    """The vectors of one file; `name` is what prompts call it, `sha256` the whole file's, "" where the caller does not know it."""

    name: str
    vectors: Mapping[int, Tensor]  # width of a text encoder -> (count, width), float32; in the order of the model's encoders
    step: int | None = None  # how long it was trained
    checkpoint: str = ""  # on which it was trained, where the file says it
    checkpoint_hash: str = ""
    sha256: str = ""

    @property
    def count(self) -> int:
        """Tokens that it takes in a prompt."""
        return len(next(iter(self.vectors.values())))

    @property
    def width(self) -> int:
        """Numbers of one vector, SDXL's two parts counted together."""
        return sum(self.vectors)


def read_embedding(path: Path, sha256: str = "") -> Embedding:
    """Read an embedding file of any kind; what it is, its content says. Raises BadModelFile with the reason for anything else."""
    with open_tensors(path) as file:
        return _embedding(file, path.stem, sha256)


def embedding_from(name: str, tensors: Mapping[str, Tensor]) -> Embedding:
    """The embedding that another kind of file brings along. Raises BadModelFile."""
    return _embedding(TensorsInMemory(tensors, name), name, "")


def _embedding(file: ModelFile, name: str, sha256: str) -> Embedding:
    vectors, facts = [_read_vectors(file, key) for key in _vector_keys(file)], file.metadata
    if len({len(part) for part in vectors}) > 1:
        raise BadModelFile(f"{file.name} has not as many vectors for one text encoder of SDXL as for the other; the file is damaged")
    return Embedding(
        name,
        {part.shape[1]: part for part in vectors},
        int(facts["step"]) if facts.get("step", "").isdecimal() else None,
        facts.get("sd_checkpoint_name", ""),
        facts.get("sd_checkpoint", ""),
        sha256,
    )


def unfit_reason(embedding: Embedding, model: DiffusionModel) -> str | None:
    """Why the loaded model cannot use the embedding, as a sentence; None where it can."""
    takes, has = _widths(model), tuple(embedding.vectors)
    if takes == has:
        return None
    return f"{embedding.name} was made for {_kind(has)}; the loaded checkpoint is of another kind ({_kind(takes)})"


class EmbeddingNames:
    """Finds the names of embeddings in the tokens of a prompt. Only those that are found are looked up: the mapping may read files late.

    unfit: a sentence for the user for each that was found so far and does not fit the model; its name is words.
    """

    def __init__(self, model: DiffusionModel, embeddings: Mapping[str, Embedding], prompt: str) -> None:
        self._model, self._embeddings = model, embeddings
        self.unfit: dict[str, str] = {}  # by name
        self._by_first: dict[int, list[tuple[list[int], str]]] = {}  # first token -> (all tokens, name), the longest first
        said = _compact(model, prompt)
        names = [name for name in embeddings if _compact(model, name) in said]  # few; tokens of all would take a second for 10,000
        found = model.tokenizer(names, truncation=False, add_special_tokens=False, verbose=False)["input_ids"] if names else []
        for ids, name in zip(found, names, strict=True):
            if ids:
                self._by_first.setdefault(ids[0], []).append((ids, name))
        for same in self._by_first.values():
            same.sort(key=lambda entry: len(entry[0]), reverse=True)

    def at(self, ids: Sequence[int], position: int) -> tuple[Embedding, int] | None:
        """The embedding whose name stands at `position`, and the name's length in tokens. Those that do not fit the model are words."""
        for name_ids, name in self._by_first.get(ids[position], ()):
            if list(ids[position : position + len(name_ids)]) == name_ids:
                embedding = self._embeddings[name]
                reason = unfit_reason(embedding, self._model)
                if reason is None:
                    return embedding, len(name_ids)
                self.unfit[name] = f"the embedding {reason}, so its name was read as words"
        return None


@contextmanager
def spliced(encoder: nn.Module, vectors: Mapping[tuple[int, int], Tensor]) -> Iterator[None]:
    """Within the block the text encoder's tokens at (row, position) have these vectors (width,); position embeddings come on top."""
    if not vectors:
        yield
        return

    def replace(layer: nn.Module, ids: Any, embedded: Tensor) -> Tensor:
        rows, positions = zip(*vectors, strict=True)
        embedded = embedded.clone()
        embedded[list(rows), list(positions)] = torch.stack(list(vectors.values())).to(embedded)
        return embedded

    handle = encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _compact(model: DiffusionModel, text: str) -> str:
    """`text` as the tokenizer sees it, without its spaces: where tokens are found in others, so is this in theirs."""
    return "".join(model.tokenizer.backend_tokenizer.normalizer.normalize_str(text).split())


def _widths(model: DiffusionModel) -> tuple[int, ...]:
    return tuple(encoder.config.hidden_size for encoder in model.text_encoders)


def _kind(widths: tuple[int, ...]) -> str:
    size = " and ".join(map(str, widths))
    return f"{KINDS[widths]}, {size} numbers a vector" if widths in KINDS else f"text encoders of {size} numbers a vector"


def _vector_keys(file: ModelFile) -> list[str]:
    """The tensors that are the embedding's vectors."""
    if file.shapes.keys() >= set(BOTH):
        return list(BOTH)
    nested = [key for key in file.shapes if key.startswith(NESTED)]
    keys = nested or list(file.shapes)
    if len(keys) != 1:
        raise BadModelFile(
            f"{file.name} is not an embedding: it holds {len(keys)} tensors where an embedding has one, or clip_l and clip_g"
        )
    return keys


def _read_vectors(file: ModelFile, key: str) -> Tensor:
    """(count, width), float32, checked."""
    shape = file.shapes[key]
    count, width = shape if len(shape) == 2 else (1, *shape) if len(shape) == 1 else (0, 0)
    if not (1 <= count <= MAX_VECTORS and 1 <= width <= MAX_WIDTH):
        raise BadModelFile(f"{file.name} is not an embedding: {key[:80]!r} has the shape {shape}, not up to {MAX_VECTORS} vectors")
    vectors = file.read(key, ReadAs(torch.float32)).reshape(count, width)
    if not (vectors.is_floating_point() and bool(torch.isfinite(vectors).all())):
        raise BadModelFile(f"{file.name} holds vectors that are not numbers; the file is damaged, get it again")
    return vectors
