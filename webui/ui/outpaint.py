"""The outpainting tab: a picture grows beyond its edges."""

import gradio as gr

from webui.ui import studio as parts
from webui.ui.studio import QUIET, Studio

SIDES = ("left", "right", "top", "bottom")
STEP = 64  # pixels that a quick button adds


def build() -> Studio:
    studio = Studio("outpaint")
    with gr.Column(elem_classes=["studio", "with-canvas"]):
        parts.prompt_area(studio)
        parts.action_area(studio)
        with gr.Column(elem_classes=["area-canvas"]):
            parts.canvas(studio, "sides")
            with gr.Row(elem_classes=["sides"]):
                for side in SIDES:
                    with gr.Column(min_width=90, elem_classes=["side"]):
                        studio.add(f"init.outpaint.{side}")
                        studio.button(f"{side}_more", f"{side.capitalize()} +{STEP}", "small", size="sm")
            gr.HTML(
                html_template="<div class='shapes' role='group' aria-label='Grow to a shape'></div>",
                js_on_load="easel.growView(element.querySelector('.shapes'))",
                elem_id="outpaint_shapes",
            )
            studio.button("no_sides", "Set all sides to 0", "small", size="sm")
        parts.result_area(studio)
        with parts.settings_area(studio):
            with gr.Row():
                studio.add("init.denoising_strength", value=1.0)
                studio.add("init.outpaint.blur")
            _way_rows(studio)
            parts.sampling_rows(studio)
            studio.add("cfg_scale")
            with gr.Row():
                studio.add("batch_count")
                studio.add("batch_size")
            parts.guidance_rows(studio)
            parts.seed_rows(studio)
            parts.rare_rows(studio)
    _wire_sides(studio)
    return studio


def _way_rows(studio: Studio) -> None:
    studio.add("init.outpaint.way")
    with gr.Accordion("A1111's ways", open=False, elem_id="outpaint_ways"):
        with gr.Row():
            studio.add("init.outpaint.falloff")
            studio.add("init.outpaint.colour_variation")
        with gr.Row():
            studio.add("init.outpaint.content")
            studio.add("init.outpaint.tile_width")
            studio.add("init.outpaint.tile_height")


def _wire_sides(studio: Studio) -> None:
    sides = [studio.widgets[f"init.outpaint.{side}"] for side in SIDES]
    for side, widget in zip(SIDES, sides, strict=True):
        more = f"pixels => (Number(pixels) || 0) + {STEP}"
        studio.buttons[f"{side}_more"].click(None, [widget], [widget], js=more, **QUIET)
    studio.buttons["no_sides"].click(None, None, sides, js="() => [0, 0, 0, 0]", **QUIET)
    assert studio.bridge is not None
    studio.bridge.sides(_dragged, None, sides, **QUIET)
    gr.on([widget.change for widget in sides], None, sides, None, js="(...sides) => easel.setSides(sides)", **QUIET)


def _dragged(event: gr.EventData) -> list[int]:
    return [int(pixels) for pixels in event._data["sides"]]
