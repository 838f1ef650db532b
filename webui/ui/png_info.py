"""The PNG info tab: what a picture file says about how it was made, and the way from there to any other tab."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='inspector' aria-label='PNG info'></section>",
        js_on_load="easel.inspectorView(element.querySelector('.inspector'))",
        elem_id="pnginfo_panel",
    )
