"""Diffusers folders are told by what they hold, in time that does not depend on their size, and hostile ones are refused."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from webui.core.catalog import Catalog, sha256_of
from webui.core.diffusers_folder import folder_facts, folder_family, folder_sha256, weight_files
from webui.core.errors import BadModelFile, MissingModel
from webui.core.settings import Settings, parse_flags

UNET = {"cross_attention_dim": 768, "in_channels": 4, "sample_size": 64}


def write_folder(folder: Path, unet: Any = UNET, scheduler: Any = None) -> Path:
    """As much of a diffusers folder as tells what it is."""
    for part, name in {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model.fp16", "text_encoder": "model"}.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{name}.safetensors").write_bytes(part.encode() * 10)
    (folder / "unet" / "config.json").write_text(json.dumps(unet))
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler or {}))
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parse_flags(["--data-dir", str(tmp_path)], {})


def test_size_and_time_are_those_of_its_weights(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    size, mtime = folder_facts(folder) or (0, 0)
    assert size == len("unetvaetext_encoder") * 10
    os.utime(folder / "vae" / "diffusion_pytorch_model.fp16.safetensors", (mtime + 10, mtime + 10))
    assert folder_facts(folder) == (size, pytest.approx(mtime + 10))


def test_weights_in_pieces_count_as_one_and_complete_sets_go_first(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole.unlink()
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in [*names, "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"]:  # of the second set a piece is missing
        (folder / "unet" / name).write_bytes(b"12345")
    assert [path.name for path in weight_files(folder / "unet")] == names
    assert (folder_facts(folder) or (0, 0))[0] == len("vaetext_encoder") * 10 + 10
    before = folder_sha256(folder)
    (folder / "unet" / names[1]).write_bytes(b"54321")
    assert folder_sha256(folder) != before


@pytest.mark.parametrize("index", ["missing", "pipe"])
def test_without_an_index_it_is_no_model(tmp_path: Path, index: str) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / "model_index.json").unlink()
    if index == "pipe":
        os.mkfifo(folder / "model_index.json")
    assert folder_facts(folder) is None


@pytest.mark.parametrize(
    ("unet", "scheduler", "expected"),
    [
        (UNET, {}, ("sd1", "epsilon", False, 512)),
        ({**UNET, "in_channels": 9}, {}, ("sd1_inpainting", "epsilon", False, 512)),
        (
            {**UNET, "cross_attention_dim": 1024, "sample_size": 96},
            {"prediction_type": "v_prediction"},
            ("sd2", "v_prediction", False, 768),
        ),
        ({**UNET, "cross_attention_dim": 1024}, {"prediction_type": "epsilon"}, ("sd2", "epsilon", False, 512)),
        ({**UNET, "cross_attention_dim": 1024}, {}, ("sd2", "epsilon", False, 512)),  # as diffusers' schedulers take it
        (UNET, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, ("sd1", "v_prediction", True, 512)),
        ({**UNET, "cross_attention_dim": 2048, "sample_size": 10**9}, {}, ("sdxl", "epsilon", False, 1024)),
    ],
)
def test_its_configurations_tell_the_family(tmp_path: Path, unet: Any, scheduler: Any, expected: tuple[object, ...]) -> None:
    family = folder_family(write_folder(tmp_path / "a", unet, scheduler))
    assert (family.name, family.prediction_type, family.zero_terminal_snr, family.native_size) == expected


@pytest.mark.parametrize("unet", [{}, [], {"cross_attention_dim": "768", "in_channels": 4}, {"cross_attention_dim": 5, "in_channels": 4}])
def test_unknown_kinds_are_refused(tmp_path: Path, unet: Any) -> None:
    with pytest.raises(BadModelFile):
        folder_family(write_folder(tmp_path / "a", unet))


def test_configurations_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / "unet" / "config.json").write_text("[" * 100_000)
    with pytest.raises(BadModelFile, match="not valid JSON"):
        folder_family(folder)
    (folder / "unet" / "config.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(BadModelFile, match="too large"):
        folder_family(folder)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(MissingModel):
        folder_family(folder)


def test_its_sum_changes_with_any_weight_and_with_no_configuration(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    lines = [
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in (
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.safetensors",
        )
    ]
    before = folder_sha256(folder)
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest() == sha256_of(folder)
    (folder / "model_index.json").write_text('{"x": 1}')
    assert folder_sha256(folder) == before
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"other")
    assert folder_sha256(folder) != before


def test_the_catalog_lists_a_folder_as_one_checkpoint(tmp_path: Path, settings: Settings) -> None:
    place = settings.checkpoint_dirs[0]
    folder = write_folder(place / "sub" / "photos v1.5")
    (place / "sub" / "photos v1.5.json").write_text('{"vae": "None", "description": "mine"}')
    catalog = Catalog(settings)
    names = [model.name for model in catalog.checkpoints() if "sub" in model.name]
    assert names == ["sub/photos v1.5"]
    model = catalog.find_checkpoint("sub/photos v1.5")
    assert model.family is not None
    assert (model.family.name, model.problem, model.sha256) == ("sd1", "", folder_sha256(folder))
    assert catalog.find_checkpoint(model.short_hash) == catalog.find_checkpoint("photos v1.5") == model
    assert catalog.notes_on(model).vae == "None"


def test_a_folder_that_came_later_is_found_by_its_name(settings: Settings) -> None:
    catalog = Catalog(settings)
    catalog.checkpoints()
    write_folder(settings.checkpoint_dirs[0] / "new")
    assert catalog.find_checkpoint("new").path.name == "new"


def test_a_damaged_folder_is_listed_with_its_problem(settings: Settings) -> None:
    write_folder(settings.checkpoint_dirs[0] / "bad", {"cross_attention_dim": 5, "in_channels": 4})
    assert "does not know" in Catalog(settings).find_checkpoint("bad").problem
