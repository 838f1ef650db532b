"""Servers in processes of their own: `easel` draws with the miniature, `light` has no torch, `locked` asks for a password."""

from collections.abc import Iterator

import pytest

from tests.reliability.live import OWNER, Live, serving


@pytest.fixture(scope="session")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Easel as its user starts it."""
    with serving(tmp_path_factory.mktemp("easel"), "app.py", "--use-cpu") as live:
        yield live


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The server with a page and a worker without torch."""
    with serving(tmp_path_factory.mktemp("light")) as live:
        yield live


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The same, with a password for everything."""
    with serving(tmp_path_factory.mktemp("locked"), "-m", "tests.reliability.light", "--gradio-auth", ":".join(OWNER)) as live:
        yield live
