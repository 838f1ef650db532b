"""LoRA files and their relatives: read once, then added to a model's weights for the length of a `with` block.

Within the block the weights are the changed ones, so a step costs what it costs without. Whatever happens, afterwards they are the very
same bits as before. On the CPU, where a copy costs as much as the change, changed weights are other tensors, in memory that waits for the
next job with LoRAs, and the originals stand aside untouched. Elsewhere they are changed, and copied back, in place: CUDA graphs know
weights by their addresses.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile, BadRequest
from webui.core.family import Family
from webui.core.network_family import lora_family
from webui.engine.model import DiffusionModel
from webui.engine.model_file import ModelFile, open_tensors
from webui.engine.patches.lora_delta import Delta
from webui.engine.patches.lora_keys import EMBEDDING, AdapterSettings, Site, layer, sites, split_key
from webui.engine.patches.lora_kinds import Channels, Full, delta_of
from webui.engine.scratch import laid_out, lines

NAMED = 3  # names in a warning, at most
SWAPPED = ("cpu",)  # devices where changed weights are other tensors


@dataclass(frozen=True)
class Place:
    """Where one change of a LoRA belongs in a model: to "weight" or "bias" of the layer at `site`."""

    site: Site
    kind: str
    delta: Delta
    inputs: int  # of the weight's input channels, the first so many change; 0: all


@dataclass(frozen=True)
class Fit:
    """How a LoRA fits a model, whatever its strengths."""

    places: tuple[Place, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Lora:
    """A file in memory, in the number type that it has.

    layers: name of a layer as in lora_keys -> what changes its "weight" and "bias". family: None where nothing tells it.
    embeddings: of files that bring some along, name -> key as in an embedding file -> tensor.
    unread: keys of no kind that Easel knows. fits: with the models it was used with, by their UNets, so that another strength asks no more.
    """

    name: str
    layers: Mapping[str, Mapping[str, Delta]]
    family: Family | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    embeddings: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    fits: WeakKeyDictionary[nn.Module, Fit] = field(default_factory=WeakKeyDictionary, repr=False)


@dataclass(frozen=True)
class LoraUse:
    """A LoRA with its strengths for the text encoders and the UNet, 1 as trained; dyn: use the first so many ranks only."""

    lora: Lora
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None


@dataclass(frozen=True)
class Change:
    """What one LoRA does to one weight."""

    delta: Delta
    strength: float
    inputs: int  # as in Place

    def added(self, total: Tensor, pristine: Tensor, out: Tensor | None) -> Tensor:
        """`total` with the change of `pristine`, all fp32: in `out`, or in new memory."""
        if not self.inputs:
            return self.delta.added(total, pristine, self.strength, out)
        changed = self.delta.added(total[:, : self.inputs], pristine[:, : self.inputs], self.strength)
        return torch.cat([changed, total[:, self.inputs :]], dim=1)


Plan = dict[int, tuple[Tensor, list[Change]]]  # by the weight's identity


def read_lora(path: Path) -> Lora:
    """Read a whole file. Raises BadModelFile where it is damaged, holds numbers that are none, or nothing that Easel can apply."""
    with open_tensors(path) as file:
        named, embeddings, unread = _sorted_keys(file)
        settings = AdapterSettings(file.metadata)
        layers: dict[str, dict[str, Delta]] = {}
        for name, keys in named.items():
            deltas = {}
            if keys.keys() != {"weight"}:  # which is what a whole checkpoint consists of
                deltas = _deltas(name, {part: _read(file, key) for part, key in keys.items()}, settings, path.name)
            if deltas:
                layers[name] = deltas
            else:
                unread += keys.values()
        if not layers and not embeddings:
            raise BadModelFile(f"{path.name} holds no LoRA or relative of it that Easel knows{_examples(unread)}")
        family = lora_family(file.shapes, file.metadata, path.name)
        return Lora(path.name, layers, family, dict(file.metadata), embeddings, tuple(unread))


@contextmanager
def applied_loras(model: DiffusionModel, uses: Sequence[LoraUse]) -> Iterator[tuple[str, ...]]:
    """Within the block the weights of the model's UNet and text encoders are changed by all `uses`; gives sentences to warn the user with.

    All is checked before anything is changed: raises BadRequest for a LoRA that does not fit the model. Takes memory for another
    copy of the weights that change, and leaves it to the model's next job with LoRAs. Do not enter it twice at once for the same model.
    """
    plan, warnings = _plan(model, uses)
    kept: list[tuple[Tensor, Tensor]] = []
    with model.scratch.lent(sum(lines(weight) for weight, _ in plan.values() if weight.device.type in SWAPPED)) as memory:
        try:
            start = 0
            for weight, changes in plan.values():
                swaps = weight.device.type in SWAPPED
                _change(weight, changes, kept, laid_out(memory, start, weight) if swaps else None)
                start += lines(weight) if swaps else 0
            yield warnings
        finally:
            _restore(kept)


def _sorted_keys(file: ModelFile) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, Tensor]], list[str]]:
    """(layer -> part -> key, bundled embeddings, keys that say nothing to us)."""
    named: dict[str, dict[str, str]] = {}
    embeddings: dict[str, dict[str, Tensor]] = {}
    unread: list[str] = []
    for key in file.shapes:
        if key.startswith(EMBEDDING):
            name, _, rest = key.removeprefix(EMBEDDING).partition(".")
            embeddings.setdefault(name, {})[rest] = _read(file, key)
        elif (split := split_key(key)) is not None:
            named.setdefault(split[0], {})[split[1]] = key
        else:
            unread.append(key)
    return named, embeddings, unread


def _read(file: ModelFile, key: str) -> Tensor:
    """A tensor whose numbers are all finite; those of 8 bits become ones that can be computed with."""
    tensor = file.read(key)
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.half()
    if tensor.is_floating_point() and tensor.numel() and not math.isfinite(tensor.abs().amax().float()):
        raise BadModelFile(
            f"{file.name}: tensor {key[:80]!r} holds numbers that are not finite; the training failed or the file is damaged"
        )
    return tensor


def _deltas(name: str, parts: dict[str, Tensor], settings: AdapterSettings, file_name: str) -> dict[str, Delta]:
    """What the tensors of one layer do to its weight and its bias; empty where they are of no kind, or not complete."""
    if "down" in parts and "alpha" not in parts and parts["down"].ndim:
        alpha = settings.alpha(name, parts["down"].shape[0])
        parts |= {} if alpha is None else {"alpha": torch.tensor(alpha)}
    if "oft_R" in parts:
        parts |= {part: torch.tensor(value) for part, value in settings.rotation(name).items()}
    try:
        weight = delta_of(parts)
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError):
        raise BadModelFile(f"{file_name}: the tensors of layer {name[:80]!r} do not belong together; the file is damaged") from None
    bias: Delta | None = next((Full(parts[part]) for part in ("diff_b", "b_norm") if part in parts), None)
    if "ia3_l" in parts and isinstance(weight, Channels) and not weight.on_input:
        bias = weight
    return ({} if weight is None else {"weight": weight}) | ({} if bias is None else {"bias": bias})


def _plan(model: DiffusionModel, uses: Sequence[LoraUse]) -> tuple[Plan, tuple[str, ...]]:
    """Each weight that changes, with its changes; and the warnings."""
    plan: Plan = {}
    warnings: list[str] = []
    for use in uses:
        fit = use.lora.fits.get(model.unet) or _fit(use.lora, model)
        for place in fit.places:
            strength = use.unet if place.site[0] == "unet" else use.te
            if strength:
                weight = getattr(layer(model, place.site), place.kind)
                delta = place.delta if use.dyn is None else place.delta.cut(use.dyn)
                plan.setdefault(id(weight), (weight, []))[1].append(Change(delta, strength, place.inputs))
        warnings += fit.warnings
    return plan, tuple(warnings)


def _fit(lora: Lora, model: DiffusionModel) -> Fit:
    """Find and check the places of all changes. Raises BadRequest for a LoRA that does not fit."""
    _check_family(lora, model)
    known = sites(model)
    places: list[Place] = []
    missing = list(lora.unread)
    for name, deltas in lora.layers.items():
        site = known.get(name)
        owner = layer(model, site) if site else None
        for kind, delta in deltas.items():
            weight = getattr(owner, kind, None)
            if owner is not None and weight is None and delta is deltas.get("weight"):
                continue  # what is multiplied with its layer's weight; this layer has no bias
            if site is None or weight is None:
                missing.append(name)
            else:
                places.append(Place(site, kind, delta, _inputs(delta, weight, name, lora, model)))
    fit = lora.fits[model.unet] = Fit(tuple(places), tuple(_warnings(lora, missing, model)))
    return fit


def _check_family(lora: Lora, model: DiffusionModel) -> None:
    if lora.family is None or lora.family.config == model.family.config:
        return
    raise BadRequest(
        f"the LoRA {lora.name} was made for {lora.family.title}, and {model.path.name} is {model.family.title}; "
        "choose a checkpoint of that family, or leave the LoRA out"
    )


def _inputs(delta: Delta, weight: Tensor, name: str, lora: Lora, model: DiffusionModel) -> int:
    """Change.inputs: 0, or the 4 of an inpainting model's 9 that other models have, too. Raises BadRequest."""
    if delta.fits(weight.shape):
        return 0
    if weight.ndim == 4 and weight.shape[1] == 9 and delta.fits((weight.shape[0], 4, *weight.shape[2:])):
        return 4
    raise BadRequest(
        f"the LoRA {lora.name} does not fit {model.path.name}: the weight of layer {name[:120]} has the shape {tuple(weight.shape)}; "
        "the LoRA was made for another kind of checkpoint, or it is damaged"
    )


def _warnings(lora: Lora, missing: Sequence[str], model: DiffusionModel) -> list[str]:
    """Raises BadRequest where nothing at all matches."""
    if not missing:
        return []
    count = sum(map(len, lora.layers.values())) + len(lora.unread)
    if len(missing) == count and lora.layers:
        raise BadRequest(
            f"the LoRA {lora.name} changes no layer of {model.path.name}; it was made for another kind of model, "
            f"or names its layers in a way that Easel does not know{_examples(missing)}"
        )
    return [f"{len(missing)} of the {count} layers in the LoRA {lora.name} match nothing in {model.path.name}{_examples(missing)}"]


def _examples(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f": {', '.join(repr(name[:80]) for name in names[:NAMED])}{' ...' if len(names) > NAMED else ''}"


@torch.no_grad()
def _change(weight: Tensor, changes: Sequence[Change], kept: list[tuple[Tensor, Tensor]], place: Tensor | None) -> None:
    """Give `weight` new numbers, each change worked out from the original ones, rounded once. place: where they are to be; None: where
    the original ones are.
    """
    original = weight.data
    pristine = total = original.float()
    out = place if place is not None and place.dtype == total.dtype else None
    for change in changes:
        total = change.added(total, pristine, out)
    if place is None:
        kept.append((weight, original.clone()))
        weight.copy_(total)
        return
    if total.data_ptr() != place.data_ptr():
        place.copy_(total)
    kept.append((weight, original))
    weight.data = place


@torch.no_grad()
def _restore(kept: list[tuple[Tensor, Tensor]]) -> None:
    for weight, original in kept:
        numbers = original.to(weight.device)  # the same tensor, unless the model was moved within the block
        if weight.device.type in SWAPPED:
            weight.data = numbers
        else:
            weight.copy_(numbers)
