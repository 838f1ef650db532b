"""Seamless tiling: convolutions that see the picture's other side beyond an edge, so that the picture can be laid beside itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Around:
    """Convolves in a layer's place. horizontally, vertically: along which axes the picture goes on at its other side."""

    horizontally: bool
    vertically: bool
    padding: tuple[int, int]  # rows, columns
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x: (batch, channels, height, width). Edges that are no seams have zeros beyond them, as ever."""
        rows, columns = self.padding
        x = functional.pad(x, (columns, columns, 0, 0), mode="circular" if self.horizontally else "constant")
        x = functional.pad(x, (0, 0, rows, rows), mode="circular" if self.vertically else "constant")
        return functional.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)


@contextmanager
def seamless(module: nn.Module, *, horizontally: bool, vertically: bool) -> Iterator[None]:
    """Within the block all convolutions of a UNet or a VAE that pad the picture do so from its other side, along these axes."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer.padding not in ((0, 0), "valid")]
    if not horizontally and not vertically:
        layers = []
    try:
        for layer in layers:
            around = Around(horizontally, vertically, tuple(layer.padding), layer.stride, layer.dilation, layer.groups)
            vars(layer)["_conv_forward"] = around  # asked by nn.Conv2d.forward
        yield
    finally:
        for layer in layers:
            vars(layer).pop("_conv_forward", None)


def goes_around(layer: nn.Module) -> tuple[bool, bool]:
    """Whether a layer is within such a block: horizontally, vertically."""
    around = vars(layer).get("_conv_forward")
    return (around.horizontally, around.vertically) if isinstance(around, Around) else (False, False)
