"""Bounds on processor time that neither other programs nor the rest of the test run can break."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Spent:
    """seconds: of processor time, known after the block of `processor_time`."""

    seconds = 0.0


@contextmanager
def processor_time(clock: Callable[[], float] = time.thread_time) -> Iterator[Spent]:
    """Measures its block; `clock` may be that of all threads.

    Garbage is not collected within: a run of thousands of tests holds millions of objects, and to go through them all takes a
    second of whoever allocates next.
    """
    spent, collecting = Spent(), gc.isenabled()
    gc.disable()
    begin = clock()
    try:
        yield spent
    finally:
        spent.seconds = clock() - begin
        if collecting:
            gc.enable()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fails when its block takes longer. What waits for ever is ended by pytest's timeout."""
    with processor_time() as spent:
        yield
    assert spent.seconds < seconds, f"{spent.seconds:.2f} s of processor time, {seconds} s are allowed"
