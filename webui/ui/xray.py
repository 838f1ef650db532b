"""The X-ray tab: how a picture came about, step by step; which words matter; the way between two; noise on a picture. Drawn by xray.js."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='xray' aria-label='X-ray'></section>",
        js_on_load="easel.xrayView(element.querySelector('.xray'))",
        elem_id="xray_panel",
    )
