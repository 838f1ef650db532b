"""The Extras tab: finished pictures made larger, singly, in batches, or a whole folder of outputs."""

import json
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import LATENT_UPSCALERS, PIXEL_UPSCALERS
from webui.core.extras import ExtrasRequest
from webui.core.upscalers import upscaler_name
from webui.service.service import Service
from webui.ui.events import QUIET

BY, TO = "Scale by", "Scale to"


class Extras:
    """The tab's widgets by name, and its button that looks for new files."""

    def __init__(self) -> None:
        self.widgets: dict[str, Component] = {}
        self.lists: list[Component] = []  # of upscalers

    def choices(self, service: Service) -> dict[Component, Any]:
        """New choices for the lists of upscalers."""
        names = upscaler_choices(service)
        return {each: gr.Dropdown(choices=names) for each in self.lists}

    def start(self, service: Service, drafts: Any) -> dict[Component, Any]:
        """What the widgets show when the page opens. drafts: what the browser kept of the last visit; anything in it may be out of date."""
        draft = drafts.get("extras") if isinstance(drafts, dict) else None
        kept = draft if isinstance(draft, dict) else {}
        names = upscaler_choices(service)
        usual = {"upscaler": _usual(names), "second_upscaler": "None"}
        shown: dict[Component, Any] = {}
        for name, widget in self.widgets.items():
            value = kept.get(name, usual.get(name, widget.value))
            if widget in self.lists:
                shown[widget] = gr.Dropdown(choices=names, value=value if value in names else usual[name])
            elif type(value) is type(widget.value) or (type(value), type(widget.value)) in ((int, float), (float, int)):
                shown[widget] = value if name != "way" or value in (BY, TO) else BY
        return shown


def upscaler_choices(service: Service, latent: bool = False) -> list[str]:
    """The names of all upscalers. latent: with those of hires fix that stretch latents."""
    return [*(LATENT_UPSCALERS if latent else ()), *PIXEL_UPSCALERS, *map(upscaler_name, service.catalog.upscalers())]


def _usual(names: list[str]) -> str:
    """The one that is chosen on a first visit: a model, if there is one."""
    return next((name for name in names if name not in PIXEL_UPSCALERS), "Lanczos")


def build() -> Extras:
    tab = Extras()
    with gr.Column(elem_classes=["extras"]):
        with gr.Column(elem_classes=["forms"]):
            gr.HTML(
                html_template="<section class='extras-input' aria-label='Pictures to work on'></section>",
                js_on_load="easel.extrasInput(element.querySelector('.extras-input'))",
                elem_id="extras_input",
            )
            with gr.Column(elem_classes=["sheet"]):
                _upscaler_rows(tab)
                _size_rows(tab)
                _tile_rows(tab)
            with gr.Column(elem_classes=["area-actions"]), gr.Row(elem_classes=["go"]):
                generate = gr.Button("Generate", variant="primary", elem_id="extras_generate", elem_classes=["generate"])
                interrupt = gr.Button("Interrupt", elem_id="extras_interrupt", elem_classes=["stop"])
                skip = gr.Button("Skip", elem_id="extras_skip", elem_classes=["stop"])
        gr.HTML(
            html_template="<section class='result extras-result' aria-label='Result'></section>",
            js_on_load="easel.extrasView(element.querySelector('.result'))",
            elem_id="extras_results",
        )
    names, widgets = json.dumps(list(tab.widgets)), list(tab.widgets.values())
    generate.click(None, widgets, None, js=f"(...values) => easel.extras.generate({names}, values)", trigger_mode="multiple", **QUIET)
    interrupt.click(None, None, None, js="() => easel.interrupt('extras')", **QUIET)
    skip.click(None, None, None, js="() => easel.skip('extras')", **QUIET)
    told = f"(...values) => {{ easel.keep('extras', {names}, values); easel.extras.settings({names}, values); }}"
    gr.on([widget.change for widget in widgets], None, widgets, None, js=told, **QUIET)
    return tab


def _upscaler_rows(tab: Extras) -> None:
    with gr.Row():
        tab.widgets["upscaler"] = _upscalers("extras_upscaler_1", "Upscaler 1", "Lanczos")
        tab.widgets["second_upscaler"] = _upscalers("extras_upscaler_2", "Upscaler 2", "None")
    tab.widgets["second_visibility"] = gr.Slider(
        0, 1, 0.0, step=0.01, label="Visibility of upscaler 2", interactive=True, elem_id="extras_upscaler_2_visibility"
    )
    tab.lists = [tab.widgets["upscaler"], tab.widgets["second_upscaler"]]


def _upscalers(element: str, label: str, value: str) -> gr.Dropdown:
    return gr.Dropdown(list(PIXEL_UPSCALERS), value=value, label=label, interactive=True, elem_id=element, min_width=160)


def _size_rows(tab: Extras) -> None:
    tab.widgets["way"] = gr.Radio([BY, TO], value=BY, label="Size", interactive=True, elem_id="extras_resize_mode")
    with gr.Row(elem_classes=["scale-by"]):
        tab.widgets["scale"] = gr.Slider(0.25, 8, 2.0, step=0.05, label="Resize by", interactive=True, elem_id="extras_upscaling_resize")
    with gr.Row(elem_classes=["scale-to"]):
        tab.widgets["width"] = gr.Number(
            512, label="Width", precision=0, interactive=True, elem_id="extras_upscaling_resize_w", min_width=90
        )
        tab.widgets["height"] = gr.Number(
            512, label="Height", precision=0, interactive=True, elem_id="extras_upscaling_resize_h", min_width=90
        )
        tab.widgets["crop"] = gr.Checkbox(True, label="Crop to fit", interactive=True, elem_id="extras_upscaling_crop", min_width=120)


def _tile_rows(tab: Extras) -> None:
    with gr.Accordion("Tiles: smaller ones need less memory", open=False, elem_id="extras_tiles"), gr.Row():
        tab.widgets["tile"] = gr.Slider(
            0, 1024, ExtrasRequest.tile, step=32, label="Tile, pixels (0: the whole picture)", interactive=True, elem_id="extras_tile"
        )
        tab.widgets["tile_overlap"] = gr.Slider(
            0, 128, ExtrasRequest.tile_overlap, step=4, label="Overlap of tiles, pixels", interactive=True, elem_id="extras_tile_overlap"
        )
