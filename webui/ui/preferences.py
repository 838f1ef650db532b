"""The Settings tab: all preferences in one searched table, presets, files of settings, the key map, what this browser keeps."""

import gradio as gr


def build() -> None:
    gr.HTML(
        html_template="<section class='settings' aria-label='Settings'></section>",
        js_on_load="easel.settingsView(element.querySelector('.settings'))",
        elem_id="settings_panel",
    )
