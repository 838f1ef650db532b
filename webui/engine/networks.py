"""The extra networks that a prompt calls with `<lora:name:1>` or `<hypernet:name:1>`: found, read, and applied for one job."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.core.errors import MissingModel
from webui.core.lora_hash import write_lora_hashes
from webui.core.model_listing import ModelFile
from webui.core.networks import NetworkUse, extract_networks, hypernetwork_strength, lora_strengths
from webui.engine.embeddings import Embedding, embedding_from, read_embedding
from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import HypernetworkUse, applied_hypernetworks, read_hypernetwork
from webui.engine.patches.lora import Lora, LoraUse, applied_loras, read_lora
from webui.engine.patches.lora_rotations import InputRotation

KEPT = 4  # files that stay in memory between jobs; where a prompt calls more, all of those
READERS: dict[str, Callable[[Path], Any]] = {"lora": read_lora, "hypernet": read_hypernetwork}


@dataclass(frozen=True)
class Networks:
    """What a prompt calls. prompt: its text without the tags; facts: for the infotext; notices: sentences for the user."""

    prompt: str
    loras: tuple[LoraUse, ...] = ()
    hypernetworks: tuple[HypernetworkUse, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def text_patches(self) -> Hashable:
        """What changes text encoders; equal ones change them equally."""
        return tuple((weakref.ref(use.lora), use.te, use.dyn) for use in self.loras if use.te)

    @property
    def embeddings(self) -> dict[str, Embedding]:
        """Those that the LoRAs bring along, by name."""
        return {name: embedding_from(name, tensors) for use in self.loras for name, tensors in use.lora.embeddings.items()}


@contextmanager
def applied(networks: Networks, model: DiffusionModel) -> Iterator[tuple[str, ...]]:
    """Within the block the model works with all of them; gives sentences for the user. Raises BadRequest for those that do not fit it."""
    with applied_loras(model, networks.loras) as warnings, applied_hypernetworks(model, networks.hypernetworks):
        yield networks.notices + warnings


def fitting(networks: Networks, model: DiffusionModel) -> Networks:
    """Without the LoRAs for another family than the model's; a notice tells each."""
    loras = tuple(use for use in networks.loras if use.lora.family is None or use.lora.family.config == model.family.config)
    left_out = [use.lora.name for use in networks.loras if use not in loras]
    notices = (f"the LoRA {name} does nothing in {model.path.name}, which is {model.family.title}" for name in left_out)
    return replace(networks, loras=loras, notices=(*networks.notices, *notices))


class NetworkStore:
    """Reads the networks of prompts, and keeps the last files in memory, so that another strength costs no reading."""

    def __init__(self, find: Callable[[str, str], Path], hash_of: Callable[[Path], str]) -> None:
        """find: (one of READERS, name) -> its file; raises MissingModel. hash_of: a LoRA file -> the hash by which infotexts name it."""
        self._find, self._hash_of = find, hash_of
        self._kept: OrderedDict[tuple[str, Path, int, int], tuple[Any, str]] = OrderedDict()  # the network and its hash

    def of(self, prompt: str) -> Networks:
        """Raises BadRequest, MissingModel, BadModelFile where a network cannot be used."""
        text, uses = extract_networks(prompt)
        loras: list[LoraUse] = []
        hypernetworks: list[HypernetworkUse] = []
        hashes: list[tuple[str, str]] = []
        known = [use for use in uses if use.kind in READERS]
        last = {use.name: lora_strengths(use) for use in known if use.kind == "lora"}  # of one named twice the last count both times
        for use in known:
            network, digest = self._read(use.kind, self._find(use.kind, use.name))
            if use.kind == "lora":
                strengths = last[use.name]
                loras.append(LoraUse(network, strengths.te, strengths.unet, strengths.dyn))
                hashes.append((use.name, digest))
            else:
                hypernetworks.append(HypernetworkUse(network, hypernetwork_strength(use)))
        while len(self._kept) > max(KEPT, len(known)):
            self._kept.popitem(last=False)
        facts = {"Lora hashes": write_lora_hashes(hashes)} if any(digest for _, digest in hashes) else {}
        notices = [_unknown(use) for use in uses if use.kind not in READERS]
        notices += dict.fromkeys(_guessed(use.lora) for use in loras if _is_guessed(use.lora))
        return Networks(text, tuple(loras), tuple(hypernetworks), facts, tuple(notices))

    def _read(self, kind: str, path: Path) -> tuple[Any, str]:
        key = (kind, path, *_state(path))
        if key not in self._kept:
            self._kept[key] = READERS[kind](path), self._hash_of(path) if kind == "lora" else ""
        self._kept.move_to_end(key)
        return self._kept[key]


def known_hash(file: ModelFile) -> str:
    """What the listing says."""
    return file.sha256 or ""


class EmbeddingStore:
    """The embeddings that prompts may call, each read when it is first called, and anew when its file has changed."""

    def __init__(self, files: Callable[[], Iterable[ModelFile]], hash_of: Callable[[ModelFile], str] = known_hash) -> None:
        """files: those that are listed. hash_of: a file -> its sha256, by which infotexts name it; "" where it is not known."""
        self._files, self._hash_of = files, hash_of
        self._kept: dict[tuple[Path, float, int], Embedding] = {}

    def now(self) -> Mapping[str, Embedding]:
        """Those whose files are there at this moment, by name; of two files of one name the first. What is listed as damaged is no
        embedding: else a file called "broken" would spoil every prompt with that word."""
        return _Embeddings({file.stem: file for file in reversed(list(self._files())) if not file.problem}, self._read)

    def _read(self, file: ModelFile) -> Embedding:
        key = (file.path, file.mtime, file.size)
        if key not in self._kept:
            self._kept[key] = read_embedding(file.path, self._hash_of(file))
        return self._kept[key]


class _Embeddings(Mapping[str, Embedding]):
    def __init__(self, files: Mapping[str, ModelFile], read: Callable[[ModelFile], Embedding]) -> None:
        self._files, self._read = files, read

    def __getitem__(self, name: str) -> Embedding:
        return self._read(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _unknown(use: NetworkUse) -> str:
    return f"{use.tag[:100]} was left out of the prompt: Easel knows <lora:...> and <hypernet:...>"


def _is_guessed(lora: Lora) -> bool:
    """Whether it rotates weights as peft's OFT does, and nothing tells whether by the series or exactly: then the other way round."""
    rotates = any(isinstance(delta, InputRotation) for deltas in lora.layers.values() for delta in deltas.values())
    return rotates and "use_cayley_neumann" not in lora.metadata.get("lora_adapter_metadata", "")


def _guessed(lora: Lora) -> str:
    return (
        f"the LoRA {lora.name} rotates weights (PEFT's OFT) and does not say how: taken is PEFT's default, the approximation; if it was "
        "trained with use_cayley_neumann=False, save it with its settings (diffusers' save_lora_weights), else it turns the wrong way"
    )


def _state(path: Path) -> tuple[int, int]:
    """By which a file that has changed is known. Raises MissingModel."""
    try:
        state = path.stat()
    except OSError:
        raise MissingModel(f"{path.name} is not there any more; refresh the list, or take it out of the prompt") from None
    return state.st_mtime_ns, state.st_size
