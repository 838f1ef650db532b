"""The Extras tab's widgets: upscalers of the folders, drafts that are still good."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from webui.service.service import Service
from webui.ui import extras
from webui.ui.extras import BY, TO, upscaler_choices


@pytest.fixture
def tab() -> extras.Extras:
    with gr.Blocks():
        return extras.build()


@pytest.fixture
def mine(service: Service) -> Iterator[Path]:
    """One more model."""
    path = service.settings.upscaler_dirs[0] / "mine.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    yield path
    path.unlink()


def shown(tab: extras.Extras, service: Service, draft: Any) -> dict[str, Any]:
    """name -> value that a widget starts with."""
    start = tab.start(service, {"extras": draft})
    return {name: getattr(start[widget], "value", start[widget]) for name, widget in tab.widgets.items() if widget in start}


def test_the_lists_have_filters_first_and_then_models(service: Service, mine: Path) -> None:
    assert upscaler_choices(service) == ["None", "Lanczos", "Nearest", "mine", "easel-world-x2"]
    assert upscaler_choices(service, latent=True)[:2] == ["Latent", "Latent (antialiased)"]


def test_a_first_visit_starts_with_a_model(tab: extras.Extras, service: Service) -> None:
    first = shown(tab, service, None)
    assert (first["upscaler"], first["second_upscaler"], first["scale"], first["way"]) == ("easel-world-x2", "None", 2.0, BY)


def test_a_draft_comes_back_but_what_is_out_of_date_in_it_does_not(tab: extras.Extras, service: Service, mine: Path) -> None:
    good = shown(tab, service, {"upscaler": "mine", "scale": 3, "way": TO, "crop": False, "tile": 64})
    assert (good["upscaler"], good["scale"], good["way"], good["crop"], good["tile"]) == ("mine", 3, TO, False, 64)
    bad = shown(tab, service, {"upscaler": "gone", "second_upscaler": ["x"], "scale": "much", "way": "Sideways"})
    assert (bad["upscaler"], bad["second_upscaler"], bad["way"], "scale" in bad) == ("mine", "None", BY, False)


@pytest.mark.parametrize("draft", [7, "x", [], None])
def test_drafts_of_another_form_are_ignored(tab: extras.Extras, service: Service, draft: Any) -> None:
    assert shown(tab, service, draft)["upscaler"] == "easel-world-x2"
