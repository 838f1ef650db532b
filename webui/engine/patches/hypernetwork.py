"""Hypernetworks: small nets that change what attention looks at, one for its keys and one for its values. A1111's `.pt` files.

The field's rule: wherever the UNet attends to a context (in self-attention the layer's own normed states, in cross-attention the text), the
nets for the context's width stand before `to_k` and `to_v`: context + net(context) * weight, computed in float32.
"""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile, BadRequest, StorageError
from webui.engine.model import DiffusionModel
from webui.engine.model_file import read_plain
from webui.engine.patches.forwards import replaced_forwards

MAX_FILE_BYTES = 4_000_000_000
MAX_LAYERS = 32
MAX_WIDTH = 65_536  # of a context and of what lies between two layers
OLD_NAMES = {f"linear{old}.{kind}": f"linear.{new}.{kind}" for old, new in ((1, 0), (2, 1)) for kind in ("weight", "bias")}
DROPOUT = 0.3  # where a file says that there is dropout, but not how much

# What A1111's trainer calls them: torch's class names in lower case, but for "swish". Softmax and others that mix places are not here.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "swish": nn.Hardswish,
    **{
        kind.__name__.lower(): kind
        for kind in (
            *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish),
            *(nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh),
            nn.Tanhshrink,
        )
    },
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How every net of a hypernetwork is built; the defaults are what a file means that does not say."""

    layer_structure: tuple[float, ...] = (1, 2, 1)  # widths as multiples of the context's, from context to context
    activation: str = "linear"  # one of ACTIVATIONS, or "linear": none
    activate_output: bool = True  # after the last layer too
    layer_norm: bool = False  # after each activation
    dropout: tuple[float, ...] = (0, 0, 0)  # after the layers, as long as layer_structure and first and last 0; counts in training


class HypernetworkModule(nn.Module):
    """One net: context -> context + linear(context) * weight."""

    def __init__(self, width: int, layout: Layout) -> None:
        super().__init__()
        widths = [int(width * part) for part in layout.layer_structure]
        layers: list[nn.Module] = []
        for i in range(1, len(widths)):
            layers.append(nn.Linear(widths[i - 1], widths[i]))
            if layout.activation != "linear" and (layout.activate_output or i < len(widths) - 1):
                layers.append(ACTIVATIONS[layout.activation]())
            if layout.layer_norm:
                layers.append(nn.LayerNorm(widths[i]))
            if layout.dropout[i] > 0:
                layers.append(nn.Dropout(layout.dropout[i]))
        self.linear = nn.Sequential(*layers)  # the places in it are names in the file

    def forward(self, context: Tensor, weight: float = 1.0) -> Tensor:
        return context + self.linear(context) * weight


@dataclass(frozen=True)
class Hypernetwork:
    """nets: context width -> (the net for keys, the net for values), float32. facts: what else the file says, for its next saving."""

    name: str
    layout: Layout
    nets: dict[int, tuple[HypernetworkModule, HypernetworkModule]]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HypernetworkUse:
    """A hypernetwork in a prompt. weight: any number; 0 changes nothing."""

    hypernetwork: Hypernetwork
    weight: float = 1.0


@contextmanager
def applied_hypernetworks(model: DiffusionModel, uses: Sequence[HypernetworkUse]) -> Iterator[None]:
    """Within the block the UNet attends through the hypernetworks, each seeing what the one before it made; afterwards as before.

    To be entered before `remembered_text_keys`, which then holds changed keys; entered after it, the pictures are the same, but nothing is
    remembered. Raises BadRequest for a hypernetwork that has no net of any width in this model; widths that the model lacks do nothing.
    """
    attentions = _attentions(model)
    widths = context_widths(model)
    for use in uses:
        if not widths & use.hypernetwork.nets.keys():
            raise BadRequest(
                f"hypernetwork {use.hypernetwork.name} is for another kind of model: its widths are {_listed(use.hypernetwork.nets)}, "
                f"this model's {_listed(widths)}; take it out of the prompt or choose the checkpoint that it was made for"
            )
    chains = {width: _chains(uses, width, model.device) for width in widths}
    replacements = [
        (layer, _through(layer, chain))
        for part in attentions
        for layer, chain in zip((part.to_k, part.to_v), chains[part.to_k.in_features], strict=True)
        if chain
    ]
    with replaced_forwards(replacements):
        yield


def context_widths(model: DiffusionModel) -> set[int]:
    """The widths of all that the model attends to: hypernetworks need a net for one of them at least."""
    return {part.to_k.in_features for part in _attentions(model)}


def _attentions(model: DiffusionModel) -> list[Any]:
    return [part for name, part in model.unet.named_modules() if name.endswith((".attn1", ".attn2"))]


Chain = list[tuple[HypernetworkModule, float]]


def _chains(uses: Sequence[HypernetworkUse], width: int, device: torch.device) -> tuple[Chain, Chain]:
    """The nets and weights that contexts of `width` go through, for keys and for values."""
    pairs = [(use.hypernetwork.nets[width], use.weight) for use in uses if use.weight and width in use.hypernetwork.nets]
    return [(_on(device, pair[0]), weight) for pair, weight in pairs], [(_on(device, pair[1]), weight) for pair, weight in pairs]


def _on(device: torch.device, net: HypernetworkModule) -> HypernetworkModule:
    """The net itself where it is there already: training reaches its weights so; else a copy."""
    return net if next(net.parameters()).device == device else copy.deepcopy(net).to(device)


def _through(layer: nn.Module, chain: Chain) -> Callable[[Tensor], Tensor]:
    compute = layer.forward

    def forward(context: Tensor) -> Tensor:
        for net, weight in chain:
            context = net(context.float(), weight).to(context.dtype)
        return compute(context)

    return forward


def _listed(widths: Any) -> str:
    return ", ".join(map(str, sorted(widths)))


def read_hypernetwork(path: Path) -> Hypernetwork:
    """A file of A1111's trainer, of any age. Raises BadModelFile, naming the file, for anything else."""
    content = read_plain(path, MAX_FILE_BYTES)
    if not isinstance(content, dict) or not any(type(key) is int for key in content):
        raise BadModelFile(f"{path.name} is not a hypernetwork: it holds no nets for contexts of 320, 640, 768 ...{_other_kind(content)}")
    layout = read_layout(content, path.name)
    nets = {width: _read_pair(width, pair, layout, path.name) for width, pair in content.items() if type(width) is int}
    facts = {key: content[key] for key in FACTS if isinstance(content.get(key), (str, int))}
    return Hypernetwork(path.stem, layout, nets, facts)


FACTS = ("step", "weight_initialization", "sd_checkpoint", "sd_checkpoint_name", "optional_info")


def _other_kind(content: Any) -> str:
    if isinstance(content, dict) and "string_to_param" in content:
        return "; it is an embedding: put it into embeddings/"
    if isinstance(content, dict) and any("lora_" in str(key) for key in content):
        return "; it is a LoRA: put it into loras/"
    return ""


def read_layout(content: dict[Any, Any], name: str) -> Layout:
    """What a file, or somebody who wants one made, says of its nets. Raises BadModelFile for nets that cannot be built."""
    structure = content.get("layer_structure") or Layout.layer_structure
    if not _is_numbers(structure) or not 2 <= len(structure) <= MAX_LAYERS or structure[0] != 1 or structure[-1] != 1:
        raise BadModelFile(f"{name} is a hypernetwork with a layer structure that cannot be built: {str(structure)[:80]}")
    activation = content.get("activation_func") or Layout.activation
    if not isinstance(activation, str) or activation not in ("linear", *ACTIVATIONS):
        raise BadModelFile(f"{name} is a hypernetwork with the activation {str(activation)[:40]!r}, which Easel does not run")
    return Layout(
        layer_structure=tuple(structure),
        activation=activation,
        activate_output=bool(content.get("activate_output", Layout.activate_output)),
        layer_norm=bool(content.get("is_layer_norm", Layout.layer_norm)),
        dropout=_read_dropout(content, len(structure), name),
    )


def _read_dropout(content: dict[Any, Any], count: int, name: str) -> tuple[float, ...]:
    """After which layers there is dropout: it takes places in the numbering. Old files only say whether there is any."""
    said = content.get("dropout_structure")
    if said is not None:
        if not _is_numbers(said) or len(said) != count or not all(0 <= share < 1 for share in said):
            raise BadModelFile(f"{name} is a hypernetwork with a dropout structure that cannot be built: {str(said)[:80]}")
        return tuple(said)
    last = count - 2 if content.get("last_layer_dropout") else count - 3
    return tuple(DROPOUT if content.get("use_dropout") and 1 <= i <= last else 0 for i in range(count))


def _is_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(type(value) in (int, float) and 0 <= value <= MAX_WIDTH for value in values)


def _read_pair(width: int, pair: Any, layout: Layout, name: str) -> tuple[HypernetworkModule, HypernetworkModule]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise BadModelFile(f"{name} has no pair of nets (keys, values) for contexts of {width}; download or copy it again")
    keys, values = (_read_net(width, weights, layout, name) for weights in pair)
    return keys, values


def _read_net(width: int, weights: Any, layout: Layout, name: str) -> HypernetworkModule:
    """The net with the file's weights; it is laid out without memory first, so that no number in the file can ask for more than it has."""
    misfit = BadModelFile(f"{name}: the net for contexts of {width} does not fit its layer structure; download or copy it again")
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise misfit
    if not 1 <= width <= MAX_WIDTH or not all(1 <= int(width * part) <= MAX_WIDTH for part in layout.layer_structure):
        raise misfit
    with torch.device("meta"):
        net = HypernetworkModule(width, layout)
    tensors = {OLD_NAMES.get(key, key): weight.detach().float() for key, weight in weights.items()}
    wanted = net.state_dict()
    if tensors.keys() != wanted.keys() or any(tensors[key].shape != wanted[key].shape for key in wanted):
        raise misfit
    if not all(bool(weight.isfinite().all()) for weight in tensors.values()):
        raise BadModelFile(
            f"{name} has weights that are no numbers (NaN or infinite): its training went wrong; choose an earlier step of it"
        )
    net.load_state_dict(tensors, assign=True)
    return net.eval().requires_grad_(False)


def save_hypernetwork(path: Path, hypernetwork: Hypernetwork) -> None:
    """Write A1111's layout, which every program that knows hypernetworks reads; the file appears whole or not at all."""
    layout = hypernetwork.layout
    content: dict[Any, Any] = {width: tuple(_plain_weights(net) for net in pair) for width, pair in hypernetwork.nets.items()}
    content |= {
        "step": 0,
        "weight_initialization": "Normal",
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "optional_info": None,
        **hypernetwork.facts,
        "name": hypernetwork.name,
        "layer_structure": list(layout.layer_structure),
        "activation_func": layout.activation,
        "is_layer_norm": layout.layer_norm,
        "activate_output": layout.activate_output,
        "use_dropout": any(layout.dropout),
        "dropout_structure": list(layout.dropout),
        "last_layer_dropout": layout.dropout[-2] != 0,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}; free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _plain_weights(net: HypernetworkModule) -> dict[str, Tensor]:
    return {key: weight.detach().cpu().contiguous() for key, weight in net.state_dict().items()}
