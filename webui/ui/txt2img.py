"""The txt2img tab: words to pictures."""

import gradio as gr

from webui.ui import studio as parts
from webui.ui.studio import Studio


def build() -> Studio:
    studio = Studio("txt2img")
    with gr.Column(elem_classes=["studio"]):
        parts.prompt_area(studio)
        parts.action_area(studio)
        parts.result_area(studio)
        with parts.settings_area(studio):
            parts.sampling_rows(studio)
            parts.size_row(studio)
            studio.add("cfg_scale")
            parts.guidance_rows(studio)
            parts.seed_rows(studio)
            parts.hires_rows(studio)
            parts.refiner_rows(studio)
            parts.aesthetic_rows(studio)
            parts.rare_rows(studio)
            parts.scripts(studio)
    return studio
