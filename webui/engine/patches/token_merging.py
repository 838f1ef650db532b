"""Token merging: self-attention over fewer pixels, of which each stands for several that are alike (Bolya and Hoffman 2023,
arXiv:2303.17604), in the layers of the picture's full size, where attention costs most. Faster, and another picture."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from webui.engine.patches.forwards import replaced_forwards

STRIDE = 2  # of each square of so many pixels a side the first is one that others are merged into


@contextmanager
def merged_tokens(unet: Any, ratio: float) -> Iterator[None]:
    """Within the block self-attention works on 1 - ratio (0 .. 1) of the pixels, but never on fewer than every STRIDE-th of every
    STRIDE-th row. Which are merged is decided by what each layer sees, without chance, as in A1111."""
    if not ratio:
        yield
        return
    size = [0, 0]  # height and width of the latents at work
    with ExitStack() as exits:
        exits.callback(unet.register_forward_pre_hook(lambda module, given: size.__setitem__(slice(None), given[0].shape[2:])).remove)
        pairs = []
        for block in (part for part in unet.modules() if hasattr(part, "attn1") and hasattr(part, "norm1")):
            layer = _Merging(block.attn1.forward, ratio, size)
            exits.callback(block.register_forward_pre_hook(layer.look, with_kwargs=True).remove)
            pairs.append((block.attn1, layer))
        exits.enter_context(replaced_forwards(pairs))
        yield


class _Merging:
    """Answers in a self-attention's place. size: see `merged_tokens`."""

    def __init__(self, attend: Callable[..., Tensor], ratio: float, size: list[int]) -> None:
        self._attend, self._ratio, self._size = attend, ratio, size
        self._seen: Tensor | None = None

    def look(self, block: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A hook: what the block is given, before its norm, says which pixels are alike."""
        self._seen = given[0] if given else named["hidden_states"]

    def __call__(self, hidden_states: Tensor, *others: Any, **named: Any) -> Tensor:
        seen, self._seen = self._seen, None
        height, width = self._size
        if seen is None or seen.shape[1] != height * width:  # a layer of less than the full size
            return self._attend(hidden_states, *others, **named)
        matching = Matching(seen, (height, width), int(seen.shape[1] * self._ratio))
        return matching.parted(self._attend(matching.merged(hidden_states), *others, **named))


class Matching:
    """Which pixels are merged into which others: the `count` most alike pairs, by the cosine of what lies there.

    seen: (rows, height * width, channels); each row has pairs of its own.
    """

    def __init__(self, seen: Tensor, size: tuple[int, int], count: int) -> None:
        height, width = size
        chosen = torch.zeros(size, dtype=torch.bool, device=seen.device)
        chosen[: height // STRIDE * STRIDE : STRIDE, : width // STRIDE * STRIDE : STRIDE] = True
        places = torch.arange(height * width, device=seen.device)
        self._targets, self._sources = places[chosen.flatten()], places[~chosen.flatten()]
        unit = seen / seen.norm(dim=-1, keepdim=True)
        alike, partner = (unit[:, self._sources] @ unit[:, self._targets].transpose(1, 2)).max(dim=-1)
        order = alike.argsort(dim=-1, descending=True)
        self._gone, self._left = order[:, :count], order[:, count:]  # of the sources
        self._into = partner.gather(1, self._gone)  # of the targets

    def merged(self, x: Tensor) -> Tensor:
        """(rows, fewer, channels): the sources that are left, and the targets, each the mean of itself and what is merged into it."""
        sources, targets = x[:, self._sources], x[:, self._targets]
        targets = targets.scatter_reduce(1, _wide(self._into, x), sources.gather(1, _wide(self._gone, x)), "mean")
        return torch.cat([sources.gather(1, _wide(self._left, x)), targets], dim=1)

    def parted(self, merged: Tensor) -> Tensor:
        """(rows, height * width, channels): every pixel has what the one that stands for it has."""
        left, targets = merged.split([self._left.shape[1], len(self._targets)], dim=1)
        sources = merged.new_empty(len(merged), len(self._sources), merged.shape[2])
        sources.scatter_(1, _wide(self._left, merged), left)
        sources.scatter_(1, _wide(self._gone, merged), targets.gather(1, _wide(self._into, merged)))
        whole = merged.new_empty(len(merged), len(self._sources) + len(self._targets), merged.shape[2])
        whole[:, self._sources], whole[:, self._targets] = sources, targets
        return whole


def _wide(index: Tensor, like: Tensor) -> Tensor:
    """An index (rows, n) for all channels of `like`."""
    return index[:, :, None].expand(-1, -1, like.shape[2])
