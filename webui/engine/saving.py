"""A job that writes a checkpoint anew, with another number type, layout or VAE; and what it shares with the merger: progress, stopping."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

from webui.core.event import Control, Event, Finished, Loading, Progress
from webui.core.model_orders import SaveOrder
from webui.engine.checkpoint import Layout, saving_model
from webui.engine.model import DiffusionModel
from webui.engine.tensor_writer import PRECISIONS


class Interrupted(Exception):
    """The job was told to stop."""


def save(order: SaveOrder, control: Control, *, load: Callable[[SaveOrder], DiffusionModel], folder: Path) -> Iterator[Event]:
    """Write the order's checkpoint into `folder`; yields what happens, Finished last. To stop, close it or let `control` say so.

    Weights go through the number type in which models are in memory: fp16 on most cards. Raises BadRequest where the name is taken,
    BadModelFile, StorageError where the disk is full.
    """
    order.validate()
    yield Loading(f"reading {order.checkpoint}")
    steps = saving_model(load(order), folder / order.file_name, PRECISIONS[order.precision], cast(Layout, order.layout))
    try:
        with closing(steps):
            yield from in_percents(f"writing {order.name}", steps, control)
    except Interrupted:
        yield Finished(interrupted=True)
        return
    yield Finished()


def in_percents(text: str, steps: Iterable[float], control: Control) -> Iterator[Progress]:
    """One event for each percent of `steps`, which yields shares, 0 .. 1. Raises Interrupted where the job is told to stop."""
    shown = 0
    for fraction in steps:
        if control.interrupted and fraction < 1:
            raise Interrupted
        if (percent := int(fraction * 100)) > shown:
            shown = percent
            yield Progress(1, 1, percent, 100, text)
