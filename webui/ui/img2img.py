"""The img2img tab: pictures to pictures; with paint on the picture, only the painted part changes (inpaint)."""

import gradio as gr

from webui.ui import studio as parts
from webui.ui.studio import QUIET, Studio

MODES = ["img2img", "Inpaint"]


def build() -> Studio:
    studio = Studio("img2img")
    with gr.Column(elem_classes=["studio", "with-canvas"]):
        parts.prompt_area(studio)
        parts.action_area(studio)
        with gr.Column(elem_classes=["area-canvas"]):
            mode = gr.Radio(MODES, value=MODES[0], show_label=False, container=False, elem_id="img2img_mode", interactive=True)
            parts.canvas(studio, "mask")
            _inpaint_rows(studio)
        parts.result_area(studio)
        with gr.Column(elem_classes=["area-settings"]):
            studio.add("init.denoising_strength")
            parts.sampling_rows(studio)
            parts.size_row(studio, ("detect_image_size", "Take the size of the picture", "ruler"))
            with gr.Row():
                studio.add("init.resize_mode")
                studio.add("cfg_scale")
            parts.seed_rows(studio)
            parts.aesthetic_rows(studio)
            parts.rare_rows(studio)
            parts.scripts(studio)
    mode.change(None, [mode], None, js="mode => easel.setMode(mode)", **QUIET)
    sizes = [studio.widgets["width"], studio.widgets["height"]]
    studio.buttons["detect_image_size"].click(None, sizes, sizes, js="(...now) => easel.pictureSize('img2img', now)", **QUIET)
    return studio


def _inpaint_rows(studio: Studio) -> None:
    with gr.Column(elem_classes=["only-inpaint"]):
        with gr.Row():
            studio.add("init.inpaint.invert")
            studio.add("init.inpaint.only_masked")
        with gr.Row():
            studio.add("init.inpaint.content")
            studio.add("init.inpaint.blur_x")
            studio.add("init.inpaint.padding")
