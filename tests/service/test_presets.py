"""Sets of preferences under a name, and what a set would change."""

from pathlib import Path

import pytest

from tests.service.conftest import settings_for, write_checkpoint
from webui.core.errors import BadRequest, MissingModel
from webui.core.preferences import PREFERENCES, SECTIONS, Preference
from webui.service.service import Service, open_service


@pytest.fixture
def service(tmp_path: Path):
    settings = settings_for(tmp_path)
    write_checkpoint(settings.checkpoint_dirs[0] / "large.safetensors", 768)
    made = open_service(settings, "tests.service.handlers:make")
    yield made
    made.stop()


def test_every_preference_stands_in_one_section() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(preference.name for preference in PREFERENCES)


def test_a_preset_brings_back_what_was_set_and_the_defaults_of_the_rest(service: Service) -> None:
    service.set_preferences({"jpeg_quality": 95, "randn_source": "NV"})
    service.presets.keep(" prints ")
    service.set_preferences({"jpeg_quality": 80, "samples_format": "webp"})
    told = service.presets.compared(service.presets.get("prints"), whole=True)
    assert told.changes == {"jpeg_quality": (80, 95), "samples_format": ("webp", "png")}
    service.set_preferences({name: then for name, (_, then) in told.changes.items()})
    assert (service.preferences()["jpeg_quality"], service.preferences()["samples_format"]) == (95, "png")
    service.presets.remove("prints")
    assert service.presets.names() == []


def test_a_config_of_a1111s_is_told_apart_into_what_changes_what_is_unknown_and_what_is_wrong(service: Service) -> None:
    config = {
        "sd_model_checkpoint": "large.safetensors",
        "CLIP_stop_at_last_layers": 2.0,
        "samples_format": "png",
        "jpeg_quality": 900,
        "sd_vae": "gone.pt",
        "grid_background_color": "#ffffff",
    }
    told = service.presets.compared(config)
    assert told.changes == {"sd_model_checkpoint": ("", "large.safetensors"), "CLIP_stop_at_last_layers": (1, 2)}
    assert told.same == ("samples_format",)
    assert told.unknown == ("grid_background_color",)
    assert sorted(told.wrong) == ["jpeg_quality", "sd_vae"]
    assert "gone.pt" in told.wrong["sd_vae"]
    assert service.preferences()["CLIP_stop_at_last_layers"] == 1  # looked at, not set


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 81])
def test_a_name_that_cannot_be_read_is_refused(service: Service, name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        service.presets.keep(name)


def test_a_preset_that_is_not_there_is_told(service: Service) -> None:
    with pytest.raises(MissingModel, match="no preset"):
        service.presets.remove("prints")


def test_what_no_answer_can_hold_is_told_in_what_it_can(service: Service) -> None:
    told = service.presets.compared(
        {"a\ud800": 1, "x" * 5000: 1, "sd_vae": "\ud800", "jpeg_quality": float("inf"), "eta_ancestral": float("nan")}
    )
    assert told.unknown == ("a?", "x" * 1000)
    assert sorted(told.wrong) == ["eta_ancestral", "jpeg_quality", "sd_vae"]
    "".join(told.wrong.values()).encode("utf-8")


@pytest.mark.parametrize("preference", [each for each in PREFERENCES if isinstance(each.default, int | float)], ids=lambda each: each.name)
def test_no_number_is_endless(preference: Preference) -> None:
    for value in (float("inf"), float("-inf"), float("nan")):
        with pytest.raises(BadRequest):
            preference.check(value)
