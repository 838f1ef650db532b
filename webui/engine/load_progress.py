"""How far the reading of a checkpoint is: counted by the numbers read, told while a thread of its own reads."""

import math
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from webui.core.event import Loading
from webui.engine.model_file import AS_STORED, ModelFile, ReadAs
from webui.engine.module_loading import Part

EVERY = 0.1  # seconds between two events
Result = TypeVar("Result")
Tell = Callable[[float], None]  # is told the share that has been read, 0 .. 1


class LoadProgress:
    """Follows one load at a time. Its thread is always the same one, so that what is kept per thread is kept once."""

    def __init__(self) -> None:
        self._share = 0.0
        self._thread = ThreadPoolExecutor(1, "load")

    def tell(self, share: float) -> None:
        """By whoever loads: so much has been read."""
        self._share = share

    def follow(self, work: Callable[[], Result], text: str) -> Generator[Loading, None, Result]:
        """The result of `work`; tells every tenth of a second how far it is. Closed early, it waits until `work` ends."""
        yield Loading(text)
        self._share = 0.0
        future = self._thread.submit(work)
        try:
            while not wait([future], EVERY).done:
                yield Loading(text, self._share)
            return future.result()
        finally:
            wait([future])


def at_once(work: Callable[[], Result], text: str) -> Generator[Loading, None, Result]:
    """As `LoadProgress.follow`, for what takes no time."""
    yield Loading(text)
    return work()


class CountedFile:
    """A ModelFile that counts the numbers read from it."""

    def __init__(self, file: ModelFile, count: Callable[[int], None]) -> None:
        self.name, self.shapes, self.metadata = file.name, file.shapes, file.metadata
        self._file, self._count = file, count

    def read(self, key: str, how: ReadAs = AS_STORED) -> Tensor:
        tensor = self._file.read(key, how)
        self._count(tensor.numel())
        return tensor


def counted(parts: Mapping[str, Part], tell: Tell) -> dict[str, Part]:
    """The same parts; `tell` learns after each tensor which share of them all has been read."""
    total = sum(math.prod(shape) for part in parts.values() for key, shape in part.file.shapes.items() if key.startswith(part.prefix))
    done = 0
    counting = threading.Lock()  # several threads read

    def count(numbers: int) -> None:
        nonlocal done
        with counting:
            done += numbers
            tell(min(done / max(total, 1), 1.0))

    return {name: replace(part, file=CountedFile(part.file, count)) for name, part in parts.items()}
