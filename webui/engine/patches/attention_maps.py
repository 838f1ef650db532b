"""Which pixels attend to which tokens: cross-attention's weights, worked out a second time beside the attention, which stays as it is.

A forward hook sees what each layer is given; the layer's answer, whatever processor makes it, goes on untouched. So pictures are the same
bit for bit, and it does not matter who else changes processors meanwhile.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

WORK = ("down", "mid", "up")  # blocks
QUERIES = 4096  # pixels at once: 8 heads and 77 tokens take 10 MB


def cross_attentions(unet: Any) -> dict[str, Any]:
    """The UNet's layers that attend to the text, by name, in the order of its work: "down_blocks.1.attentions.0.transformer_blocks.0"."""
    found = {name.removesuffix(".attn2"): part for name, part in unet.named_modules() if name.endswith(".attn2")}
    return dict(sorted(found.items(), key=lambda item: WORK.index(item[0].partition("_")[0])))


class AttentionMaps:
    """The maps of one call of the UNet; `expect` them before it, `take` them after it."""

    def __init__(self, layers: Collection[str] = ()) -> None:
        """layers: names of those that are recorded; none: all."""
        self._layers = frozenset(layers)
        self._groups: Tensor | None = None
        self._every = 1
        self._maps: dict[str, Tensor] = {}
        self._seen: dict[str, int] = {}  # rows of this call that a layer has had
        self.seconds = 0.0  # that all this took so far

    def expect(self, groups: Tensor | None, every: int = 1) -> None:
        """Forget what was; record rows 0, every, 2 * every ... of the next call, as many as there are groups: (rows, tokens, kept), what
        each kept map sums up of a row's tokens; None: record nothing."""
        self._groups, self._every = groups, every
        self._maps, self._seen = {}, {}

    def take(self) -> dict[str, Tensor]:
        """Layer -> (rows, kept, pixels), float16 on the CPU, averaged over the heads; over all tokens they sum to 1."""
        maps, self._maps = self._maps, {}
        self._groups = None
        return maps

    @contextmanager
    def recording(self, unet: Any) -> Iterator[None]:
        """Within the block the UNet's layers are listened to."""
        with ExitStack() as hooks:
            for name, layer in cross_attentions(unet).items():
                if not self._layers or name in self._layers:
                    hooks.callback(layer.register_forward_hook(self._hook(name), with_kwargs=True).remove)
            yield

    def _hook(self, name: str) -> Any:
        def hook(layer: Any, given: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
            text = named.get("encoder_hidden_states", given[1] if len(given) > 1 else None)
            if self._groups is not None and text is not None:
                self._record(name, layer, given[0] if given else named["hidden_states"], text)

        return hook

    def _record(self, name: str, layer: Any, pixels: Tensor, text: Tensor) -> None:
        """A call may come in portions of its rows, where memory is scarce: the layer sees them in their order."""
        assert self._groups is not None
        begun = time.perf_counter()
        start = self._seen.get(name, 0)
        self._seen[name] = start + len(pixels)
        wanted = [row for row in range(start, start + len(pixels)) if row % self._every == 0 and row // self._every < len(self._groups)]
        if wanted:
            groups = self._groups[[row // self._every for row in wanted]]
            maps = attention_weights(layer, pixels, text, groups, [row - start for row in wanted]).half().cpu()
            self._maps[name] = torch.cat([self._maps[name], maps]) if name in self._maps else maps
        self.seconds += time.perf_counter() - begun


def attention_weights(layer: Any, pixels: Tensor, text: Tensor, groups: Tensor, rows: Sequence[int]) -> Tensor:
    """softmax(Q K^T / sqrt(d)), averaged over the heads (Vaswani et al. 2017, arXiv:1706.03762, equation 1): (rows, kept, pixels), float32.

    pixels: (all rows, pixels, channels). text: (all rows, tokens, width), the very object that the layer was given: its keys may be
    remembered by it. groups: (rows, tokens, kept). rows: which of all are meant.
    """
    key = layer.to_k(text)[rows].unflatten(2, (layer.heads, -1)).permute(0, 2, 3, 1).float()  # (rows, heads, channels, tokens)
    parts = []
    for some in layer.to_q(pixels[rows]).unflatten(2, (layer.heads, -1)).transpose(1, 2).float().split(QUERIES, dim=2):
        weights = (some @ key * layer.scale).softmax(dim=-1).mean(dim=1)  # (rows, some pixels, tokens)
        parts.append((weights @ groups.to(weights.device, weights.dtype)).transpose(1, 2))
    return torch.cat(parts, dim=2)
