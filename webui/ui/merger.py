"""The Models tab: files as cards; two or three checkpoints merged into one, and one checkpoint in another number type or layout."""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.model_orders import CONFIG_SOURCES, LAYOUTS, METHODS, PRECISIONS
from webui.service.service import Service
from webui.ui import actions
from webui.ui.studio import QUIET, bridge

LETTERS = {"primary": "A", "secondary": "B", "tertiary": "C"}
WORDS = {
    "Weighted sum": "A × (1 − M) + B × M",
    "Add difference": "A + (B − C) × M",
    "No interpolation": "A, in another number type or with another VAE",
}


class Merger:
    """The tab's drop-down lists, whose choices follow the folders, and the fields of its forms by name."""

    def __init__(self) -> None:
        self.checkpoints: list[Component] = []
        self.vaes: list[Component] = []
        self.forms: dict[str, Mapping[str, Component]] = {}

    def choices(self, service: Service) -> dict[Component, Any]:
        """New choices for every list."""
        checkpoints = actions.checkpoint_choices(service)
        vaes = actions.vae_choices(service)[1:]  # without "Automatic"
        return {each: gr.Dropdown(choices=checkpoints) for each in self.checkpoints} | {
            each: gr.Dropdown(choices=vaes) for each in self.vaes
        }

    def start(self, service: Service, drafts: Any) -> dict[Component, Any]:
        """What the fields show when the page opens. drafts: what the browser kept of the last visit; anything in it may be out of date."""
        shown = self.choices(service)
        for form, fields in self.forms.items():
            draft = drafts.get(form) if isinstance(drafts, dict) else None
            for name, value in (draft if isinstance(draft, dict) else {}).items():
                widget = fields.get(name)
                if widget in shown and value in [choice for _, choice in shown[widget].choices]:
                    shown[widget] = gr.Dropdown(choices=shown[widget].choices, value=value)
                elif widget is not None and widget not in shown and _takes(widget, value):
                    shown[widget] = value
        return shown


def build() -> Merger:
    tab = Merger()
    gr.HTML(
        html_template="<section class='cards' aria-label='Model files'></section>",
        js_on_load="easel.cardsView(element.querySelector('.cards'), 'merger')",
        elem_id="models_cards",
    )
    with gr.Column(elem_classes=["merger"]):
        with gr.Column(elem_classes=["forms"]):
            _merge_form(tab)
            _save_form(tab)
        gr.HTML(
            html_template="<section class='orders' aria-label='Progress'></section>",
            js_on_load="easel.ordersView(element.querySelector('.orders'))",
            elem_id="modelmerger_results_panel",
        )
    names = json.dumps({form: list(fields) for form, fields in tab.forms.items()})
    widgets = [widget for fields in tab.forms.values() for widget in fields.values()]
    bridge("merger", "keep").keep(None, widgets, None, js=f"(...values) => easel.keepAll({names}, values)", **QUIET)
    return tab


def _merge_form(tab: Merger) -> None:
    with gr.Column(elem_classes=["sheet"]):
        gr.HTML("<h2>Merge checkpoints</h2>", padding=False)
        with gr.Row():
            slots = {slot: _checkpoints(f"modelmerger_{slot}_model_name", f"Checkpoint {letter}") for slot, letter in LETTERS.items()}
            tab.checkpoints += slots.values()
        method = gr.Radio(
            [(f"{name}: {WORDS[name]}", name) for name in WORDS],
            value="Weighted sum",
            label="Method",
            interactive=True,
            elem_id="modelmerger_interp_method",
        )
        multiplier = gr.Slider(0, 1, 0.3, step=0.01, label="Multiplier M", interactive=True, elem_id="modelmerger_interp_amount")
        with gr.Row():
            name = _text("modelmerger_custom_name", "Name of the new checkpoint", "Made of the others' names")
            precision = gr.Radio(list(PRECISIONS), value="fp16", label="Number type", interactive=True, elem_id="modelmerger_precision")
            vae = _vaes("modelmerger_bake_in_vae", "VAE to bake in")
        tab.vaes.append(vae)
        with gr.Accordion("More", open=False, elem_id="modelmerger_more"):
            with gr.Row():
                config = gr.Radio(
                    list(CONFIG_SOURCES),
                    value=CONFIG_SOURCES[0],
                    label="Copy .yaml from",
                    interactive=True,
                    elem_id="modelmerger_config_method",
                )
                discard = _text(
                    "modelmerger_discard_weights", "Discard weights whose name fits", "A regular expression, such as ^model_ema"
                )
            with gr.Row():
                keep = gr.Checkbox(
                    True, label="Copy the checkpoints' metadata", interactive=True, elem_id="modelmerger_copy_metadata_fields"
                )
                recipe = gr.Checkbox(
                    True, label="Write the recipe into the metadata", interactive=True, elem_id="modelmerger_add_merge_recipe"
                )
        button = gr.Button("Merge", variant="primary", elem_id="modelmerger_merge")
    fields: Mapping[str, Component] = {
        **slots,
        "method": method,
        "multiplier": multiplier,
        "name": name,
        "precision": precision,
        "bake_in_vae": vae,
        "config_source": config,
        "discard_weights": discard,
        "copy_metadata": keep,
        "add_recipe": recipe,
    }
    tab.forms["merge"] = fields
    _order(button, "merge", "recipe", fields)
    method.change(None, [method], None, js=f"method => easel.showSlots({json.dumps(METHODS)}.indexOf(method))", **QUIET)


def _save_form(tab: Merger) -> None:
    with gr.Column(elem_classes=["sheet"]):
        gr.HTML("<h2>Save a checkpoint as</h2>", padding=False)
        with gr.Row():
            checkpoint, vae = _checkpoints("modelsave_checkpoint", "Checkpoint"), _vaes("modelsave_vae", "VAE")
        tab.checkpoints.append(checkpoint)
        tab.vaes.append(vae)
        with gr.Row():
            name = _text("modelsave_name", "Name", "Needed")
            precision = gr.Radio(list(PRECISIONS), value="fp16", label="Number type", interactive=True, elem_id="modelsave_precision")
            layout = gr.Radio(list(LAYOUTS), value=LAYOUTS[0], label="Layout", interactive=True, elem_id="modelsave_layout")
        button = gr.Button("Save", elem_id="modelsave_save")
    fields = {"checkpoint": checkpoint, "vae": vae, "name": name, "precision": precision, "layout": layout}
    tab.forms["save"] = fields
    _order(button, "save", "order", fields)


def _order(button: gr.Button, kind: str, key: str, fields: Mapping[str, Component]) -> None:
    """The button sends the fields to the models' route `kind`, as the object `key`."""
    names = json.dumps(list(fields))
    button.click(None, list(fields.values()), None, js=f"(...values) => easel.order('{kind}', '{key}', {names}, values)", **QUIET)


def _takes(widget: Component, value: Any) -> bool:
    if isinstance(widget, gr.Radio):
        return value in [choice for _, choice in widget.choices]
    if isinstance(widget, gr.Slider):
        return isinstance(value, int | float) and widget.minimum <= value <= widget.maximum
    return type(value) is type(widget.value)


def _checkpoints(element: str, label: str) -> gr.Dropdown:
    return gr.Dropdown([], value=None, label=label, interactive=True, elem_id=element, min_width=200)


def _vaes(element: str, label: str) -> gr.Dropdown:
    return gr.Dropdown(["None"], value="None", label=label, interactive=True, elem_id=element, min_width=160)


def _text(element: str, label: str, placeholder: str) -> gr.Textbox:
    return gr.Textbox("", label=label, placeholder=placeholder, max_lines=1, interactive=True, elem_id=element, min_width=200)
