"""webui/service/replay.py: what a recipe names is found again. (Pictures that replay identically: tests/golden/test_replay.py.)"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.conftest import write_checkpoint
from webui.core.catalog import Catalog, sha256_of
from webui.core.errors import MissingModel
from webui.core.hires import HiresFix
from webui.core.recipe import Recipe
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.service.replay import to_run


def test_second_checkpoints_are_found_by_their_content_under_any_name(settings: Settings) -> None:
    folder = settings.checkpoint_dirs[0]
    other = write_checkpoint(folder / "renamed.safetensors", text_width=768)
    first = Catalog(settings).default_checkpoint()
    request = GenerationRequest(checkpoint=first.name, vae="None", width=64, height=64, seed=1, variation_seed=0)
    files = {"checkpoint old.safetensors": sha256_of(other)}
    catalog = Catalog(settings)
    catalog.with_hash(catalog.find_checkpoint("renamed"))
    refined = replace(request, refiner=Refiner(checkpoint="old.safetensors"), hires=HiresFix(checkpoint="old.safetensors"))
    again = to_run(Recipe(refined, files), catalog, Path)
    assert again.refiner is not None
    assert again.hires is not None
    assert (again.refiner.checkpoint, again.hires.checkpoint) == ("renamed.safetensors", "renamed.safetensors")
    with pytest.raises(MissingModel, match=r"made with checkpoint gone\.safetensors"):
        to_run(Recipe(replace(request, refiner=Refiner(checkpoint="gone.safetensors"))), catalog, Path)
