"""Building UNets, VAEs and text encoders from tensors on disk: no random start values, no memory used twice."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Barrier
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from webui.core.errors import BadModelFile
from webui.engine.diffusers_parts import (
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    StrictDataclassError,
    UNet2DConditionModel,
)
from webui.engine.ldm_keys import Place
from webui.engine.model_file import ModelFile, ReadAs
from webui.engine.spare import Spare

MAX_BLOCKS = 8  # more than any VAE has, in depth and in layers
MAX_TOWER_LAYERS = 64  # more than any of CLIP's image towers has
MAX_DEPTH = 16  # more transformer layers than any block has
HEAD_WIDTH = 64  # of CLIP's text models and of the UNets of SD 2.x and SDXL, at every width
PORTION = 1 << 24  # bytes of weights that a thread reads before it asks for more
Config = dict[str, Any]


def _cast_alone() -> None:
    """This thread calls no other threads from now on."""
    torch.get_num_threads()  # after which torch never again gives this thread what it gives a new one
    torch.set_num_threads(1)


def two_readers() -> ThreadPoolExecutor:
    """Two threads that read, the one while the other casts. Their casts call no other threads; all other threads keep theirs.

    Both have begun before this returns: torch's number of threads is the whole process's for a moment, and a thread that first
    computed in that moment would keep it, at half its speed and with other last bits.
    """
    threads = torch.get_num_threads()  # this thread has its own from here on
    readers = ThreadPoolExecutor(2, "read", _cast_alone)
    both = Barrier(2)
    wait([readers.submit(both.wait) for _ in range(2)])
    torch.set_num_threads(threads)  # for this thread, and for all that first compute later
    return readers


READERS = two_readers()  # always the same, for what torch keeps per thread


class _Unstarted(TorchFunctionMode):
    """A block whose modules get no random start values: weights are read into them."""

    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


@dataclass(frozen=True)
class Part:
    """One component's tensors in a model file."""

    file: ModelFile
    title: str  # "UNet", "VAE", "text encoder": for error texts
    prefix: str
    places: Callable[[Iterable[str], Mapping[str, Any]], dict[str, Place]]

    def size(self, key: str, axis: int, config: Config) -> int | None:
        """One side of a weight by its diffusers name; None where the file has nothing of that kind."""
        shape = self.file.shapes.get(self.prefix + self.places([key], config)[key].key, ())
        return shape[axis] or None if axis < len(shape) else None

    @property
    def is_there(self) -> bool:
        """Whether the file holds anything of this component."""
        return any(key.startswith(self.prefix) for key in self.file.shapes)


@dataclass(frozen=True)
class _Weight:
    key: str  # in the module
    place: Place  # in the file
    shape: tuple[int, ...]  # in the module
    how: ReadAs


class Reading:
    """A block within which weights are read by threads, while this one makes the frame of the next module; at its end all have theirs.

    The files must stay open until then. Whatever is wrong with a file is told at the block's end at the latest.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, spare: Spare | None = None) -> None:
        """dtype, device: of the weights. spare: memory for them; what they do not need of it is let go of."""
        self.device, self._dtype, self._spare = device, dtype, spare or Spare()
        self._begun: list[tuple[nn.Module, list[Future[dict[str, Tensor]]]]] = []

    def begin(self, part: Part, module: nn.Module, config: Config, dtype: torch.dtype | None = None) -> None:
        """Have every weight of the module read, in `dtype` where that is given."""
        wanted = module.state_dict()
        places = part.places(wanted, config)
        lacking = [part.prefix + places[key].key for key in wanted if part.prefix + places[key].key not in part.file.shapes]
        if lacking:
            problem = f"{len(lacking)} of {len(wanted)} tensors are missing, such as {lacking[0]}"
            raise BadModelFile(f"{part.file.name}: the {part.title} is incomplete: {problem}")
        dtype = dtype or self._dtype
        sizes = [tensor.numel() * dtype.itemsize for tensor in wanted.values()]
        weights = [
            _Weight(key, places[key], tuple(tensor.shape), ReadAs(dtype, self.device, places[key].third, piece=piece))
            for (key, tensor), piece in zip(wanted.items(), self._spare.take(sizes), strict=True)
        ]
        self._begun.append((module, [READERS.submit(_read_all, part, some) for some in _portions(weights, sizes)]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._spare.clear()
        try:
            for module, coming in self._begun if error is None else ():
                module.load_state_dict({key: tensor for some in coming for key, tensor in some.result().items()}, assign=True)
        finally:
            futures = [some for _, coming in self._begun for some in coming]
            for future in futures:
                future.cancel()
            wait(futures)


def load_unet(part: Part, config: Config, reading: Reading) -> UNet2DConditionModel:
    """A UNet with the widths of the file's tensors and the rest of `config`."""
    blocks = range(len(config["block_out_channels"]))
    widths = [part.size(f"down_blocks.{i}.resnets.0.conv2.weight", 0, config) for i in blocks]
    if None not in widths and widths != config["block_out_channels"]:
        config["block_out_channels"] = widths
        if isinstance(config["attention_head_dim"], list):  # diffusers' name for the number of heads
            config["attention_head_dim"] = [max(1, width // HEAD_WIDTH) for width in widths if width]
    read_from = {
        "in_channels": "conv_in.weight",
        "cross_attention_dim": "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "projection_class_embeddings_input_dim": "add_embedding.linear_1.weight",
    }
    for name, key in read_from.items():
        if size := part.size(key, 1, config):
            config[name] = size
    if "transformer_layers_per_block" in config:
        config["transformer_layers_per_block"] = _transformer_depths(part, config)
    return _build(part, lambda: UNet2DConditionModel.from_config(config), config, reading)


def _transformer_depths(part: Part, config: Config) -> list[int]:
    """Transformer layers of each block, as many as the file has; where a block has none, the middle's count."""

    def depth(attention: str) -> int:
        return sum(part.size(f"{attention}.transformer_blocks.{i}.norm1.weight", 0, config) is not None for i in range(MAX_DEPTH))

    middle = depth("mid_block.attentions.0") or 1
    return [depth(f"down_blocks.{i}.attentions.0") or middle for i in range(len(config["block_out_channels"]))]


def load_autoencoder(part: Part, config: Config, reading: Reading, dtype: torch.dtype | None = None) -> AutoencoderKL:
    """A VAE with the blocks, layers and widths of the file's tensors and the rest of `config`."""
    probe = {**config, "block_out_channels": [0] * MAX_BLOCKS, "layers_per_block": MAX_BLOCKS}
    sizes = [part.size(f"encoder.down_blocks.{i}.resnets.0.conv2.weight", 0, probe) for i in range(MAX_BLOCKS)]
    if widths := [size for size in sizes if size]:
        layers = (part.size(f"encoder.down_blocks.0.resnets.{i}.conv1.weight", 0, probe) for i in range(MAX_BLOCKS))
        config.update(block_out_channels=widths, layers_per_block=sum(size is not None for size in layers))
        config["down_block_types"] = config["down_block_types"][:1] * len(widths)
        config["up_block_types"] = config["up_block_types"][:1] * len(widths)
    latent = part.size("post_quant_conv.weight", 1, config)
    if latent and latent != config["latent_channels"]:
        raise BadModelFile(f"{part.file.name} is a VAE of {latent} latent channels; this model needs {config['latent_channels']}")
    return _build(part, lambda: AutoencoderKL.from_config(config), config, reading, dtype)


def load_text_encoder(part: Part, config: Config, reading: Reading) -> nn.Module:
    """A CLIP text model with the widths and layers of the file's tensors and the rest of `config`."""
    width = part.size("embeddings.token_embedding.weight", 1, config)
    if width and width != config["hidden_size"]:
        config.update(hidden_size=width, num_attention_heads=max(1, width // HEAD_WIDTH), projection_dim=width)
    config["vocab_size"] = part.size("embeddings.token_embedding.weight", 0, config) or config["vocab_size"]
    config["intermediate_size"] = part.size("encoder.layers.0.mlp.fc1.weight", 0, config) or config["intermediate_size"]
    layers = (part.size(f"encoder.layers.{i}.layer_norm1.weight", 0, config) for i in range(config["num_hidden_layers"]))
    config["num_hidden_layers"] = sum(size is not None for size in layers)
    projected = config["architectures"] == ["CLIPTextModelWithProjection"]
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    model = _build(part, lambda: kind(CLIPTextConfig.from_dict(config)), config, reading)
    positions = torch.arange(config["max_position_embeddings"], device=reading.device)[None]
    (model.text_model if projected else model).embeddings.position_ids = positions  # (1, 77); a file may lack it
    return model


def load_image_encoder(part: Part, said: Config, reading: Reading) -> CLIPVisionModelWithProjection:
    """CLIP's image tower with the sizes of the file's tensors; from its configuration only what they do not show."""
    embeddings = "vision_model.embeddings"
    width = part.size(f"{embeddings}.class_embedding", 0, said)
    if not width:
        raise BadModelFile(f"{part.file.name} has no {part.title} (no tensor {embeddings}.class_embedding)")
    patch = part.size(f"{embeddings}.patch_embedding.weight", 2, said) or 0
    places = part.size(f"{embeddings}.position_embedding.weight", 0, said) or 1  # one for the picture as a whole, one for each patch
    layers = (part.size(f"vision_model.encoder.layers.{i}.layer_norm1.weight", 0, said) for i in range(MAX_TOWER_LAYERS))
    config = {
        "hidden_size": width,
        "intermediate_size": part.size("vision_model.encoder.layers.0.mlp.fc1.weight", 0, said),
        "projection_dim": part.size("visual_projection.weight", 0, said),
        "num_hidden_layers": sum(size is not None for size in layers),
        "patch_size": patch,
        "image_size": patch * math.isqrt(places - 1),
        "num_attention_heads": said.get("num_attention_heads", 12),  # where transformers leaves its defaults out
        "layer_norm_eps": said.get("layer_norm_eps", 1e-5),
        "hidden_act": "gelu" if said.get("hidden_act") == "gelu" else "quick_gelu",
    }
    model: CLIPVisionModelWithProjection
    model = _build(part, lambda: CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config)), config, reading)
    model.vision_model.embeddings.position_ids = torch.arange(places, device=reading.device)[None]
    return model


def _build(part: Part, make: Callable[[], nn.Module], config: Config, reading: Reading, dtype: torch.dtype | None = None) -> Any:
    """Make the module without memory, and have its tensors read."""
    if not part.is_there:
        raise BadModelFile(f"{part.file.name} has no {part.title} (no tensor {part.prefix}...)")
    try:
        with torch.device("meta"), _Unstarted():
            module = make()
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError, StrictDataclassError):
        raise BadModelFile(f"{part.file.name}: the {part.title}'s tensors have shapes that do not fit together") from None
    reading.begin(part, module.eval().requires_grad_(False), config, dtype)
    return module


def _portions(weights: Sequence[_Weight], sizes: Sequence[int]) -> Iterator[list[_Weight]]:
    """The weights in groups of about PORTION bytes."""
    some, size = [], 0
    for weight, more in zip(weights, sizes, strict=True):
        some.append(weight)
        size += more
        if size >= PORTION:
            yield some
            some, size = [], 0
    yield some


def _read_all(part: Part, weights: Sequence[_Weight]) -> dict[str, Tensor]:
    return {weight.key: _read(part, weight) for weight in weights}


def _read(part: Part, weight: _Weight) -> Tensor:
    """In the module's shape: 1x1 convolutions and linear layers are the same numbers."""
    place, name = weight.place, part.prefix + weight.place.key
    stored = part.file.shapes[name]
    if not _fits(stored, place, weight.shape):
        raise BadModelFile(f"{part.file.name}: tensor {name} has shape {stored}; the model needs {_as_stored(place, weight.shape)}")
    tensor = part.file.read(name, weight.how)
    if not tensor.is_floating_point():
        raise BadModelFile(f"{part.file.name}: tensor {name} holds whole numbers ({tensor.dtype}), no weights")
    return tensor.T.contiguous() if place.transposed else tensor.reshape(weight.shape)


def _fits(stored: tuple[int, ...], place: Place, shape: tuple[int, ...]) -> bool:
    wanted = _as_stored(place, shape)
    return stored == wanted or (not place.transposed and place.third is None and _without_ones(stored) == _without_ones(wanted))


def _as_stored(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a file's tensor from which a weight of `shape` is taken."""
    if place.third is not None:
        return (3 * shape[0], *shape[1:])
    return shape[::-1] if place.transposed else shape


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(64, 32, 1, 1) -> (64, 32)."""
    return tuple(size for size in shape if size != 1)
