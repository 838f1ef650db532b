"""The gallery tab: every saved picture; the grid, its search and its dialogs are drawn by the page's own script."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='gallery' aria-label='Gallery'></section>",
        js_on_load="easel.galleryView(element.querySelector('.gallery'))",
        elem_id="gallery_panel",
    )
