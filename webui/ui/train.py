"""The Train tab: pictures with captions become a LoRA, an embedding or a hypernetwork."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='train-panel' aria-label='Train'></section>",
        js_on_load="easel.trainView(element.querySelector('.train-panel'))",
        elem_id="train_panel",
    )
