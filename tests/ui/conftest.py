"""A service without a worker: jobs stay in the queue, where tests look at them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import settings_for, write_checkpoint
from webui.service.service import Service, open_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Two checkpoints: the built-in "small" of native size 128 and "large" of native size 512."""
    settings = settings_for(tmp_path)
    write_checkpoint(settings.checkpoint_dirs[0] / "large.safetensors", 768)
    write_checkpoint(tmp_path / "builtin" / "small.safetensors")
    made = open_service(settings, "tests.service.handlers:make")
    yield made
    made.stop()
