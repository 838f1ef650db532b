"""The threads that read weights."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from webui.engine.module_loading import READERS, two_readers


@pytest.fixture
def three() -> Iterator[None]:
    """torch computes with three threads."""
    mine = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(mine)


def threads_of(pool: ThreadPoolExecutor) -> int:
    """torch's number of threads in a pool's thread that has computed."""
    return pool.submit(lambda: torch.ones(1 << 17).half() is not None and torch.get_num_threads()).result()


@pytest.mark.usefixtures("three")
def test_reading_threads_cast_alone_and_leave_all_others_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    said = torch.set_num_threads

    def slowly(number: int) -> None:
        said(number)
        time.sleep(0.05)  # long enough for the other reader to see what this one has said

    monkeypatch.setattr(torch, "set_num_threads", slowly)
    with ThreadPoolExecutor(1) as engine, ThreadPoolExecutor(1) as later:
        readers = engine.submit(two_readers).result()  # in a thread that has not computed yet
        assert {threads_of(readers) for _ in range(4)} == {1}
        assert threads_of(engine) == 3
        assert threads_of(later) == 3
        assert torch.get_num_threads() == 3
        readers.shutdown()


def test_the_readers_of_this_process_cast_alone() -> None:
    assert {threads_of(READERS) for _ in range(4)} == {1}
