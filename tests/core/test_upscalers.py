"""Upscalers by name: the model files of all folders, found in any spelling; what is not there is told with what is."""

from dataclasses import replace
from pathlib import Path

import pytest

from webui.core.catalog import Catalog
from webui.core.choices import LATENT_UPSCALERS, PIXEL_UPSCALERS
from webui.core.errors import MissingModel
from webui.core.settings import Settings, parse_flags
from webui.core.upscalers import needs_model, settled_upscaler, told_scale, upscaler_name


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("upscalers/one.safetensors", "ESRGAN/4x-UltraSharp.pth", "RealESRGAN/more/x2 plus.pth", "DAT/d.pt", "SwinIR/s.pth"):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "models/ESRGAN/readme.txt").write_text("no model")
    settings = parse_flags(["--data-dir", str(tmp_path)], {})
    return replace(settings, upscaler_dirs=settings.upscaler_dirs[:-1])  # without the one that ships with Easel


def test_every_model_folder_of_the_field_is_looked_in(settings):
    names = [upscaler_name(model) for model in Catalog(settings).upscalers()]
    assert names == ["one", "4x-UltraSharp", "more/x2 plus", "s", "d"]


@pytest.mark.parametrize("flag", ["esrgan", "realesrgan", "swinir", "dat"])
def test_the_field_s_flags_name_one_more_folder(flag: str, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.pth").write_bytes(b"x")
    settings = parse_flags(["--data-dir", str(tmp_path), f"--{flag}-models-path", str(tmp_path / "elsewhere")], {})
    assert settings.warnings == ()
    assert "mine" in [upscaler_name(model) for model in Catalog(settings).upscalers()]


@pytest.mark.parametrize("text", ["4x-UltraSharp", "4X-ultrasharp", " 4x-UltraSharp.pth ", "4x-UltraSharp.pth"])
def test_a_model_is_found_in_any_spelling(settings, text: str):
    assert settled_upscaler(text, Catalog(settings).find_upscaler) == "4x-UltraSharp"


def test_the_filters_come_before_models_of_their_names(settings):
    (settings.upscaler_dirs[0] / "Lanczos.pth").write_bytes(b"x")
    assert [settled_upscaler(name.upper(), Catalog(settings).find_upscaler) for name in PIXEL_UPSCALERS] == list(PIXEL_UPSCALERS)
    assert settled_upscaler("", Catalog(settings).find_upscaler) == "None"


def test_the_ways_of_latents_count_where_they_are_asked_for(settings):
    find = Catalog(settings).find_upscaler
    assert settled_upscaler("latent", find, latent=True) == "Latent"
    with pytest.raises(MissingModel):
        settled_upscaler("Latent", find)
    assert not any(map(needs_model, (*PIXEL_UPSCALERS, *LATENT_UPSCALERS)))


def test_what_is_not_there_is_told_with_what_is(settings):
    with pytest.raises(MissingModel, match=r"upscaler 'R-ESRGAN' is not known; choose one of: None, Lanczos, Nearest, one, 4x-UltraSharp"):
        Catalog(settings).find_upscaler("R-ESRGAN")


def test_a_model_is_there_as_soon_as_its_file_is(settings):
    catalog = Catalog(settings)
    (settings.upscaler_dirs[0] / "new.pth").write_bytes(b"x")
    assert catalog.find_upscaler("new").path == settings.upscaler_dirs[0] / "new.pth"


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("4x-UltraSharp", 4),
        ("RealESRGAN_x2plus", 2),
        ("R-ESRGAN 4x+", 4),
        ("8x_NMKD", 8),
        ("easel-world-x2", 2),
        ("SwinIR_x3", 3),
        ("mix", 4),
        ("BSRGAN", 4),
        ("x0", 4),
        ("vox9000", 4),
    ],
)
def test_the_scale_that_a_name_tells(name: str, scale: float):
    assert told_scale(name) == scale
