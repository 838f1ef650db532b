"""What acts on the top row from elsewhere: cards of checkpoints, and the chips of what a tab has in place of it."""

from typing import Any

import gradio as gr
from gradio.components import Component

from webui.service.service import Service
from webui.ui import actions
from webui.ui.fields import QUICK
from webui.ui.studio import QUIET, Studio, bridge


def overrides() -> None:
    """Below the top row: what was read of a picture and counts for this tab instead; nothing where there is none."""
    gr.HTML(
        html_template="<div class='overrides' role='group' aria-label='Instead of the top row, on this tab'></div>",
        js_on_load="easel.overridesView(element.querySelector('.overrides'))",
        elem_id="overrides",
    )


def wire(studios: list[Studio], quick: dict[str, Component], service: Service) -> None:
    """A checkpoint's card does what choosing it in the top row does; a chip can be taken into the top row, which then shows it."""
    sized = [each for each in studios if "width" in each.widgets]
    sizes = [each.widgets[side] for each in sized for side in ("width", "height")]
    link = bridge("quick", "checkpoint", "adopt", "styles")

    def on_card(event: gr.EventData, *now: Any) -> list[Any]:
        name = str(event._data["name"])
        chosen = gr.Dropdown(choices=actions.checkpoint_choices(service), value=name)
        return [chosen, *(side for i in range(0, len(now), 2) for side in actions.sizes_after(service, name, now[i], now[i + 1]))]

    def on_adopt(event: gr.EventData) -> dict[Component, Any]:
        return {quick[name]: event._data[name] for name in QUICK if name in event._data}

    lists = [each.widgets["styles"] for each in studios]

    def on_styles(event: gr.EventData, *chosen: Any) -> list[Any]:
        names = [style.name for style in service.phrases.styles()]
        renamed = {str(event._data.get("was", "")): str(event._data.get("name", ""))}
        return [actions.styles_widget(names, [renamed.get(each, each) for each in one or []]) for one in chosen]

    link.styles(on_styles, lists, lists, **QUIET)
    link.checkpoint(on_card, sizes, [quick["checkpoint"], *sizes], **QUIET)
    link.adopt(on_adopt, None, list(quick.values()), **QUIET)
    for name, widget in quick.items():
        widget.input(None, None, None, js=f"() => easel.overrides.drop('{name}')", **QUIET)
