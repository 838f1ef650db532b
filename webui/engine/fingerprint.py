"""By which a model's weights are known to be those that were loaded: a digest of some numbers of every one of them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

SAMPLES = 32  # numbers of each weight; what changes a layer changes nearly all of them


@torch.inference_mode()
def fingerprint(modules: Iterable[nn.Module]) -> str:
    """Of all weights' samples, types, shapes and places; two that are equal differ, if at all, in single numbers. Takes milliseconds."""
    digest = hashlib.sha256()
    samples: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    for module in modules:
        for name, weight in module.named_parameters():
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} {weight.device}\n".encode())
            samples[weight.dtype, weight.device].append(_sample(weight))
    for taken in samples.values():
        digest.update(torch.cat(taken).cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sample(weight: Tensor) -> Tensor:
    """Up to SAMPLES of its numbers, evenly spaced in memory, in whatever order its sides lie there."""
    count = min(weight.numel(), SAMPLES)
    return weight.as_strided((count,), (weight.numel() // max(count, 1),), weight.storage_offset())
