"""The "Script" list at the end of a tab's settings, and the widgets of each script, made from its table of arguments."""

import json
import re
from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import PIXEL_UPSCALERS
from webui.core.errors import BadRequest
from webui.core.infotext import Infotext
from webui.core.scripts import xyz_plot
from webui.core.scripts.arguments import Argument
from webui.core.scripts.axes import AXES, offered
from webui.core.scripts.table import SCRIPTS, Script
from webui.core.scripts.values import texts
from webui.service.service import Service
from webui.ui.events import QUIET

NONE = "None"
XYZ = xyz_plot.TITLE
LETTERS = ("x", "y", "z")


class ScriptPanel:
    """A tab's widgets for scripts: "script" is the list, "<title>/<argument>" the others."""

    def __init__(self, tab: str) -> None:
        self.tab = tab
        self.group = f"{tab}_script"  # of the browser's drafts
        self.widgets: dict[str, Component] = {}
        self.fills: dict[str, gr.Button] = {}  # letter of an axis -> the button that takes all values there are

    def add(self, script: Script, argument: Argument) -> None:
        self.widgets[f"{script.title}/{argument.name}"] = _widget(self.tab, script.title, argument)

    def axis(self, letter: str) -> list[Component]:
        """Kind, text and list of an axis."""
        return [self.widgets[f"{XYZ}/{letter}_{name}"] for name in ("type", "values", "values_dropdown")]


def script_rows(tab: str) -> ScriptPanel:
    """The list, and below it the widgets of the script that is chosen."""
    panel = ScriptPanel(tab)
    scripts = [script for script in SCRIPTS.values() if tab in script.tabs]
    choices = [NONE, *(script.title for script in scripts)]
    chosen = gr.Dropdown(choices, value=NONE, label="Script", interactive=True, elem_id=f"{tab}_script_list", min_width=160)
    panel.widgets["script"] = chosen
    panels = {script.title: _element(tab, script.title, "panel") for script in scripts}
    for script in scripts:
        with gr.Column(elem_id=panels[script.title], elem_classes=["script-panel"]):
            make_rows = _xyz_rows if script.title == XYZ else _plain_rows
            make_rows(panel, script)
    chosen.change(None, [chosen], None, js=f"title => easel.showScript({json.dumps(panels)}, title)", **QUIET)
    return panel


def _element(tab: str, title: str, name: str) -> str:
    """An elem_id in the style that users' CSS and scripts know: script_txt2img_xyz_plot_x_type."""
    return f"script_{tab}_{re.sub(r'[^a-z_0-9]', '', title.lower().replace(' ', '_'))}_{name}"


def _widget(tab: str, title: str, argument: Argument) -> Component:
    element = _element(tab, title, argument.name)
    options: dict[str, Any] = {"label": argument.label, "value": argument.default, "interactive": True, "elem_id": element}
    if isinstance(argument.default, bool):
        return gr.Checkbox(min_width=200, **options)
    if isinstance(argument.default, int | float):
        return gr.Slider(argument.minimum or 0, argument.maximum or 0, step=argument.step, **options)
    if isinstance(argument.default, list) and argument.choices:
        return gr.CheckboxGroup(list(argument.choices), min_width=220, **options)
    if isinstance(argument.default, list):
        return gr.Dropdown([], multiselect=True, allow_custom_value=True, min_width=220, elem_classes=["as-list"], **options)
    if argument.choices:
        choices = offered(tab) if title == XYZ else list(argument.choices)  # of X/Y/Z plot without what only its numbers on the wire name
        return gr.Dropdown(choices, min_width=140, **options)
    return gr.Textbox(lines=argument.lines, max_lines=20 if argument.lines > 1 else 4, min_width=220, elem_classes=["as-text"], **options)


def _plain_rows(panel: ScriptPanel, script: Script) -> None:
    """Short arguments in a row, long texts below."""
    arguments = [argument for argument in script.arguments(panel.tab) if argument.shown]
    with gr.Row(elem_classes=["switches"]):
        for argument in arguments:
            if argument.lines == 1:
                panel.add(script, argument)
    for argument in arguments:
        if argument.lines > 1:
            panel.add(script, argument)
            text, element = panel.widgets[f"{script.title}/{argument.name}"], _element(panel.tab, script.title, "file")
            button = gr.Button("Read a text file into it", size="sm", elem_id=element, elem_classes=["small"])
            button.click(None, [text], [text], js="now => easel.textOfFile(now)", **QUIET)


def _xyz_rows(panel: ScriptPanel, script: Script) -> None:
    """A row for each axis: its kind, its values as text or as a list, a button that takes all there are; then the rest."""
    arguments = {argument.name: argument for argument in script.arguments(panel.tab)}
    for letter in LETTERS:
        idle = [] if letter == "x" else ["idle"]  # as an axis of kind Nothing, until another is chosen
        with gr.Row(elem_id=_element(panel.tab, XYZ, letter), elem_classes=["axis", *idle]):
            for name in (f"{letter}_type", f"{letter}_values", f"{letter}_values_dropdown"):
                panel.add(script, arguments.pop(name))
            label, element = f"Take all values of {letter.upper()}", _element(panel.tab, XYZ, f"fill_{letter}")
            panel.fills[letter] = gr.Button(label, elem_id=element, elem_classes=["icon", "list"])
    with gr.Row():
        for pair in ("xy", "yz", "xz"):
            label, element = f"Swap {pair[0].upper()} and {pair[1].upper()}", _element(panel.tab, XYZ, f"{pair}_swap")
            widgets = [widget for letter in pair for widget in panel.axis(letter)]
            swapped = "(...now) => [...now.slice(3), ...now.slice(0, 3)]"
            gr.Button(label, size="sm", elem_id=element, elem_classes=["small"]).click(None, widgets, widgets, js=swapped, **QUIET)
    with gr.Row(elem_classes=["switches"]):
        for argument in arguments.values():
            panel.add(script, argument)


def wire_scripts(panel: ScriptPanel, service: Service) -> None:
    """X/Y/Z plot's lists follow the kinds of its axes; the browser keeps what the widgets hold."""
    csv = panel.widgets[f"{XYZ}/csv_mode"]
    kinds = [panel.axis(letter)[0] for letter in LETTERS]
    listed = json.dumps([axis.label for axis in AXES.values() if axis.choices])
    rows = json.dumps([_element(panel.tab, XYZ, letter) for letter in LETTERS])
    shows = f"(...now) => easel.showAxes({rows}, {listed}, now)"
    gr.on([each.change for each in (*kinds, csv)], None, [*kinds, csv], None, js=shows, **QUIET)
    for letter in LETTERS:
        kind, text, chosen = panel.axis(letter)
        kind.change(lambda label, now: _choices(service, label, now), [kind, chosen], chosen, **QUIET)
        panel.fills[letter].click(lambda label, as_text: _all(service, label, as_text), [kind, csv], [text, chosen], **QUIET)


def _values(service: Service, label: str) -> list[str]:
    """All values that an axis can have, [] where they are numbers or words."""
    axis = AXES.get(label)
    return axis.choices(service.catalog) if axis and axis.choices else []


def _choices(service: Service, label: str, now: Any) -> Any:
    """The list of an axis whose kind was changed, with those values that it has, too."""
    values = _values(service, label)
    return gr.Dropdown(choices=values, value=[value for value in now or [] if value in values])


def _all(service: Service, label: str, as_text: bool) -> tuple[Any, Any]:
    values = _values(service, label)
    return (xyz_plot.csv_line(values), gr.skip()) if as_text else (gr.skip(), gr.Dropdown(choices=values, value=values))


def chosen_script(values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Title ("" for none) and arguments by name of what the widgets show."""
    title = str(values.get("script") or NONE)
    if title == NONE:
        return "", {}
    return title, {key.removeprefix(f"{title}/"): value for key, value in values.items() if key.startswith(f"{title}/")}


def filled(told: Infotext, tab: str) -> dict[str, Any]:
    """Widget values by key for a sheet's infotext: the script and X/Y/Z plot's axes; {} for other texts."""
    script = next((script for script in SCRIPTS.values() if script.title == told.params.get("Script") and tab in script.tabs), None)
    if script is None:
        return {}
    values: dict[str, Any] = {"script": script.title}
    for letter in LETTERS if script.title == XYZ else ():
        kind = told.params.get(f"{letter.upper()} Type", "Nothing")
        typed = told.params.get(f"Fixed {letter.upper()} Values") or told.params.get(f"{letter.upper()} Values", "")
        if kind in offered(tab):
            listed = texts(typed) if AXES[kind].choices else []
            values |= {f"{XYZ}/{letter}_type": kind, f"{XYZ}/{letter}_values": typed, f"{XYZ}/{letter}_values_dropdown": listed}
    return values


def start_values(tab: str, draft: Any, upscalers: list[str]) -> dict[str, Any]:
    """What the widgets show when the page opens. draft: what the browser kept; upscalers: those that are here."""
    start = still_good(tab, draft)
    for key, argument in _arguments(tab).items():
        if argument.choices == PIXEL_UPSCALERS:
            chosen = start.get(key, argument.default)
            start[key] = gr.Dropdown(choices=upscalers, value=chosen if chosen in upscalers else argument.default)
    return start


def _arguments(tab: str) -> dict[str, Argument]:
    """Those of a tab's scripts by the keys of their widgets."""
    scripts = (script for script in SCRIPTS.values() if tab in script.tabs)
    return {f"{script.title}/{argument.name}": argument for script in scripts for argument in script.arguments(tab)}


def still_good(tab: str, draft: Any) -> dict[str, Any]:
    """The values of a draft that the widgets can still take."""
    good = {}
    arguments = _arguments(tab)
    for key, value in (draft if isinstance(draft, dict) else {}).items():
        if key == "script" and value in [NONE, *(script.title for script in SCRIPTS.values() if tab in script.tabs)]:
            good[key] = value
        elif key in arguments:
            try:
                read = arguments[key].read(value)
            except BadRequest:
                continue
            if not key.endswith("_type") or read in offered(tab):
                good[key] = read
    return good
