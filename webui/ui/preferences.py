"""The Settings tab: every preference in one table that can be searched, presets, files of settings, the key map, what this browser keeps."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='settings' aria-label='Settings'></section>",
        js_on_load="easel.settingsView(element.querySelector('.settings'))",
        elem_id="settings_panel",
    )
