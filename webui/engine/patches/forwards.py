"""Answering in a module's place: how patches stand in front of single layers, several in front of one another."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced_forwards(replacements: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Within the block each module's `forward` is the given one; afterwards it is what it was, another patch's too.

    A patch that wants the module's own answer takes `module.forward` before it enters the block. Blocks end in the reverse order of their
    beginnings, as `with` and ExitStack do.
    """
    pairs = list(replacements)
    before = [vars(module).get("forward") for module, _ in pairs]
    try:
        for module, forward in pairs:
            module.forward = forward
        yield
    finally:
        for (module, _), forward in zip(pairs, before, strict=True):
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward
