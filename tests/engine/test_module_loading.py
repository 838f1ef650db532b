"""The threads that read weights."""

from concurrent.futures import ThreadPoolExecutor

import torch

from webui.engine.module_loading import READERS


def test_reading_threads_cast_alone_and_leave_all_others_their_threads() -> None:
    mine = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.ones(1 << 17).half()  # this thread's own
        readers = ThreadPoolExecutor(2, initializer=READERS._initializer)  # type: ignore[attr-defined]
        assert {readers.submit(torch.get_num_threads).result() for _ in range(4)} == {1}
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(mine)
