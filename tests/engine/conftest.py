import pytest
import torch

from webui.engine import converted, unpickle


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny models gain nothing from threads, and lose much where other work wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def torch_files_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own for each torch file would import torch hundreds of times; test_converted.py has the real one."""
    if request.module.__name__ != "tests.engine.test_converted":
        monkeypatch.setattr(converted, "_convert", lambda file, name, target: unpickle.convert(file, name, target))
