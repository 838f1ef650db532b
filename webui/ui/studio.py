"""What the three picture-making tabs share: their widgets, the layout of prompt, settings and result, and the wiring of buttons."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.service.service import Service
from webui.ui import actions, queue
from webui.ui.events import QUIET as QUIET
from webui.ui.fields import FIELDS, GUIDANCE, QUICK, SAMPLING, TABS
from webui.ui.scripts import ScriptPanel, script_rows, wire_scripts


class Studio:
    """One tab that makes pictures: its name, its widgets by field name, its actions' buttons, its bridge to the page's script."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.widgets: dict[str, Component] = {}
        self.buttons: dict[str, gr.Button] = {}
        self.bridge: gr.HTML | None = None
        self.scripts: ScriptPanel | None = None

    def add(self, name: str, **changes: Any) -> Component:
        self.widgets[name] = FIELDS[name].make(self.name, **changes)
        return self.widgets[name]

    def button(self, action: str, label: str, *classes: str, **options: Any) -> gr.Button:
        """A button; with the class "icon" its label is its tooltip and its accessible name, and CSS draws the picture."""
        self.buttons[action] = gr.Button(label, elem_id=f"{self.name}_{action}", elem_classes=list(classes), **options)
        return self.buttons[action]


def bridge(name: str, *events: str) -> gr.HTML:
    """An invisible component between the page's script and Python: easel.fire(name, event, data) there, its value (`_said`) back."""
    quoted = " ".join(f"'{event}'" for event in events)
    script = f"easel.bridge('{name}', trigger); watch('value', () => easel.told(props.value)); /* {quoted} */"
    return gr.HTML(html_template="<i></i>", js_on_load=script, elem_classes=["bridge"])


def _said(sentences: list[str], **more: Any) -> Any:
    """The value by which a bridge makes the page show `sentences` and take `more`; a new one each time, so that the page sees a change."""
    return {"say": sentences, "at": time.time_ns(), **more} if sentences or more else gr.skip()


def prompt_area(studio: Studio) -> None:
    with gr.Column(elem_classes=["area-prompt"]):
        studio.add("prompt")
        studio.add("negative_prompt")


@contextmanager
def settings_area(studio: Studio) -> Iterator[None]:
    """The block's settings; tabs beside them show the model files as cards in their place."""
    with gr.Column(elem_classes=["area-settings"]):
        cards(studio)
        yield


def cards(studio: Studio) -> None:
    gr.HTML(
        html_template="<section class='cards' aria-label='Model files'></section>",
        js_on_load=f"easel.cardsView(element.querySelector('.cards'), '{studio.name}')",
        elem_id=f"{studio.name}_extra_tabs",
    )


def action_area(studio: Studio) -> None:
    with gr.Column(elem_classes=["area-actions"]):
        with gr.Row(elem_classes=["go"]):
            studio.button("generate", "Generate", "generate", variant="primary")
            studio.button("interrupt", "Interrupt", "stop")
            studio.button("skip", "Skip", "stop")
        with gr.Column(elem_classes=["beside"]):
            studio.button("paste", "Read parameters out of the prompt, or take the last picture's", "icon", "paste")
            studio.button("clear_prompt", "Clear the prompts", "icon", "bin")
            studio.button("style_apply", "Write the chosen styles into the prompts", "icon", "apply")
            studio.button("style_edit", "Edit the styles", "icon", "pencil")
        studio.add("styles")


def sampling_rows(studio: Studio) -> None:
    with gr.Row():
        studio.add("sampler")
        studio.add("schedule_type")
    studio.add("steps")


def size_row(studio: Studio, *extra: tuple[str, str, str]) -> None:
    """Width, swap, height, any `extra` icon buttons (action, label, icon class), batch count and size."""
    with gr.Row(elem_classes=["sizes"]):
        studio.add("width")
        studio.button("res_switch", "Swap width and height", "icon", "swap")
        studio.add("height")
        for action, label, icon in extra:
            studio.button(action, label, "icon", icon)
        studio.add("batch_count")
        studio.add("batch_size")
    gr.HTML(
        html_template="<div class='shapes' role='group' aria-label='Shapes of pictures'></div>",
        js_on_load=f"easel.shapesView(element.querySelector('.shapes'), '{studio.name}')",
        elem_id=f"{studio.name}_shapes",
    )


def seed_rows(studio: Studio) -> None:
    with gr.Row(elem_classes=["seeds"]):
        studio.add("seed")
        studio.button("random_seed", "Random seed for every job", "icon", "dice")
        studio.button("reuse_seed", "Reuse the seed of the picture shown", "icon", "recycle")
    with gr.Accordion("Extra: variations of a seed, tiling", open=False, elem_id=f"{studio.name}_subseed_show"):
        with gr.Row():
            studio.add("variation_seed")
            studio.add("variation_strength")
        with gr.Row():
            studio.add("tiling")
            studio.add("tile")
            studio.add("tile_overlap")
        if "seed_resize_width" in TABS[studio.name]:
            with gr.Row():
                studio.add("seed_resize_width")
                studio.add("seed_resize_height")
    sampler_option_rows(studio)


def sampler_option_rows(studio: Studio) -> None:
    """What only few samplers and schedule types know, three in a row."""
    with gr.Accordion("Sampler options", open=False, elem_id=f"{studio.name}_sampler_options"):
        for i in range(0, len(SAMPLING), 3):
            with gr.Row():
                for name in SAMPLING[i : i + 3]:
                    studio.add(name)


@contextmanager
def switched(studio: Studio, title: str, switch: str, name: str) -> Iterator[None]:
    """A part that is folded away, elem_id `name` behind the tab's, with the field that switches it on in its header."""
    with gr.Column(elem_classes=["switched"]):
        studio.add(switch)
        with gr.Accordion(title, open=False, elem_id=f"{studio.name}_{name}"):
            yield


def hires_rows(studio: Studio) -> None:
    with switched(studio, "Hires fix", "hires.enabled", "hr"):
        with gr.Row():
            studio.add("hires.upscaler")
            studio.add("hires.steps")
        with gr.Row():
            studio.add("hires.denoising_strength")
            studio.add("hires.extra_noise")
        with gr.Row():
            studio.add("hires.scale")
            studio.add("hires.width")
            studio.add("hires.height")
        with gr.Row():
            studio.add("hires.checkpoint")
            studio.add("hires.sampler")
            studio.add("hires.schedule_type")
        studio.add("hires.cfg_scale")
        studio.add("hires.prompt")
        studio.add("hires.negative_prompt")


def refiner_rows(studio: Studio) -> None:
    with switched(studio, "Refiner", "refiner.enabled", "refiner"):
        with gr.Row():
            studio.add("refiner.checkpoint")
            studio.add("refiner.switch_at")
        with gr.Row():
            studio.add("refiner.by_steps")
            if "refiner.hires_pass" in TABS[studio.name]:
                studio.add("refiner.hires_pass")


def aesthetic_rows(studio: Studio) -> None:
    with gr.Accordion("Aesthetic gradients", open=False, elem_id=f"{studio.name}_aesthetic"):
        with gr.Row():
            studio.add("aesthetic.embedding")
            studio.add("aesthetic.learning_rate")
        with gr.Row():
            studio.add("aesthetic.weight")
            studio.add("aesthetic.steps")
        with gr.Row():
            studio.add("aesthetic.text")
            studio.add("aesthetic.slerp_angle")
        with gr.Row():
            studio.add("aesthetic.slerp")
            studio.add("aesthetic.text_negative")


def rare_rows(studio: Studio) -> None:
    """What few pictures need."""
    with gr.Accordion("More", open=False, elem_id=f"{studio.name}_more"):
        studio.add("prediction_type")


def guidance_rows(studio: Studio) -> None:
    with gr.Accordion("Guidance", open=False, elem_id=f"{studio.name}_guidance"):
        for start in range(0, len(GUIDANCE), 2):
            with gr.Row():
                for name in GUIDANCE[start : start + 2]:
                    studio.add(name)


def scripts(studio: Studio) -> None:
    """At the end of the settings."""
    studio.scripts = script_rows(studio.name)


def result_area(studio: Studio) -> None:
    with gr.Column(elem_classes=["area-result"]):
        gr.HTML(
            html_template="<section class='result' aria-label='Result'></section>",
            js_on_load=f"easel.resultView(element.querySelector('.result'), '{studio.name}')",
            elem_id=f"{studio.name}_results",
        )
        studio.bridge = bridge(studio.name, "fill", "image", "sides", "upscale", "edit", "keep", "rest")


def canvas(studio: Studio, kind: str) -> None:
    """The picture to start from; kind "mask": may be painted on; "sides": shows what is added around it."""
    gr.HTML(
        html_template="<section class='canvas' aria-label='Picture to start from'></section>",
        js_on_load=f"easel.canvasView(element.querySelector('.canvas'), '{studio.name}', '{kind}')",
        elem_id=f"{studio.name}_canvas",
    )


def wire(studio: Studio, quick: dict[str, Component], service: Service) -> None:
    """Connect a tab's buttons, its bridge and its draft. `quick` are the widgets of the top row, which every request takes along."""
    shared = {**studio.widgets, **quick}
    scripted = studio.scripts.widgets if studio.scripts else {}
    names, widgets = list(shared), list(shared.values())
    press = _presser(studio)
    assert studio.bridge is not None

    def on_generate(sent: Any, *values: Any) -> Any:
        script = dict(zip(scripted, values[len(names) :], strict=True))
        said = actions.generate(service, studio.name, sent, dict(zip(names, values, strict=False)), script)
        edited = sent.get("edits") if isinstance(sent, dict) else None
        return {"edited": edited, "at": time.time_ns()} if edited and not said else _said(said)

    def on_edit(event: gr.EventData) -> dict[Any, Any]:
        """A waiting job into the tab; or, once that is over, the drafts that were there before."""
        if "drafts" in event._data:
            values, said = actions.kept_values(service, studio.name, event._data["drafts"]), []
        else:
            values, said = queue.values_of(service, studio.name, event._data["client"], event._data["job"], tuple(names))
        return {shared[name]: value for name, value in values.items() if name in shared} | {studio.bridge: _said(said)}

    def on_fill(event: gr.EventData, *values: Any) -> dict[Any, Any]:
        text = str(event._data.get("text", ""))
        without = [str(name) for name in event._data.get("without") or []]
        updates, problems = actions.fill(service, studio.name, text, dict(zip(names, values, strict=True)), without)
        overrides = {name: updates.pop(name) for name in QUICK if name in updates}
        told = _said(problems, overrides={"tab": studio.name, "values": overrides}) if text.strip() else _said(problems)
        script = {scripted[key]: value for key, value in actions.fill_script(studio.name, text).items() if key in scripted}
        return {shared[name]: value for name, value in updates.items()} | script | {studio.bridge: told}

    def on_upscale(event: gr.EventData, *values: Any) -> Any:
        return _said(actions.upscale(service, event._data, dict(zip(names, values, strict=True))))

    collected = f"(...values) => easel.collect('{studio.name}', values)"
    sent = [studio.bridge, *widgets, *scripted.values()]
    studio.buttons["generate"].click(on_generate, sent, studio.bridge, js=collected, trigger_mode="multiple", **QUIET)
    unseen = QUIET | {"show_progress_on": studio.bridge}  # else Gradio tells each of these fields twice that nothing is to be shown
    studio.bridge.edit(on_edit, None, [*widgets, studio.bridge], **unseen)
    studio.bridge.fill(on_fill, widgets, [*studio.widgets.values(), *scripted.values(), studio.bridge], **unseen)
    if studio.scripts:
        wire_scripts(studio.scripts, service)
    if "hires.enabled" in studio.widgets:
        studio.bridge.upscale(on_upscale, widgets, studio.bridge, **QUIET)
    for action in ("interrupt", "skip", "paste"):
        press(action, f"() => easel.{action}('{studio.name}')")
    press("clear_prompt", f"() => easel.prompt.clear('{studio.name}')")
    press("style_edit", f"chosen => [easel.styles.open('{studio.name}', chosen)]", "styles")
    press("style_apply", f"chosen => [easel.styles.apply('{studio.name}', chosen)]", "styles")
    press("random_seed", "() => '-1'", "seed")
    press("reuse_seed", f"seed => easel.reuseSeed('{studio.name}', seed)", "seed")
    if "width" in studio.widgets:
        press("res_switch", "(width, height) => [height, width]", "width", "height")
    groups = {studio.name: list(studio.widgets)} | ({studio.scripts.group: list(scripted)} if studio.scripts else {})
    kept = f"(...values) => easel.keepAll({json.dumps(groups)}, values)"
    studio.bridge.keep(None, [*studio.widgets.values(), *scripted.values()], None, js=kept, **QUIET)


def _presser(studio: Studio) -> Callable[..., None]:
    def press(action: str, js: str, *names: str) -> None:
        """The button runs `js` in the browser alone; it gets and sets the widgets named."""
        widgets = [studio.widgets[name] for name in names]
        studio.buttons[action].click(None, widgets, widgets, js=js, **QUIET)

    return press
