"""The img2img tab: pictures to pictures; colours may be painted on the picture (sketch), or the part that alone shall change (inpaint)."""

from dataclasses import fields

import gradio as gr

from webui.core.soft_inpainting import SoftInpainting
from webui.ui import studio as parts
from webui.ui.studio import QUIET, Studio

MODES = ["img2img", "Sketch", "Inpaint", "Inpaint sketch", "Batch"]  # easel.js knows their places
SOFT = tuple(field.name for field in fields(SoftInpainting))


def build() -> Studio:
    studio = Studio("img2img")
    with gr.Column(elem_classes=["studio", "with-canvas"]):
        parts.prompt_area(studio)
        parts.action_area(studio)
        with gr.Column(elem_classes=["area-canvas"]):
            mode = gr.Radio(
                MODES, value=MODES[0], label="Way of working", show_label=False, container=False, elem_id="img2img_mode", interactive=True
            )
            parts.canvas(studio, "mask")
            _inpaint_rows(studio)
        parts.result_area(studio)
        with parts.settings_area(studio):
            studio.add("init.denoising_strength")
            parts.sampling_rows(studio)
            parts.size_row(studio, ("detect_image_size", "Take the size of the picture", "ruler"))
            with gr.Row():
                studio.add("init.resize_mode")
                studio.add("cfg_scale")
            parts.guidance_rows(studio)
            _repaint_rows(studio)
            _upscale_rows(studio)
            parts.seed_rows(studio)
            parts.refiner_rows(studio)
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
        studio.add("init.inpaint.greys")
        with parts.switched(studio, "Soft inpainting", "init.inpaint.soft.enabled", "soft"):
            for pair in zip(SOFT[::2], SOFT[1::2], strict=True):
                with gr.Row():
                    for name in pair:
                        studio.add(f"init.inpaint.soft.{name}")


def _repaint_rows(studio: Studio) -> None:
    with gr.Accordion("Noise, colours, steps", open=False, elem_id="img2img_changes"):
        with gr.Row():
            studio.add("init.noise_multiplier")
            studio.add("init.extra_noise")
        studio.add("init.mask_weight")
        with gr.Row():
            studio.add("init.colour_correction")
            studio.add("init.exact_steps")


def _upscale_rows(studio: Studio) -> None:
    with parts.switched(studio, "SD upscale", "init.upscale.enabled", "sd_upscale_part"), gr.Row():
        studio.add("init.upscale.scale")
        studio.add("init.upscale.upscaler")
        studio.add("init.upscale.overlap")
