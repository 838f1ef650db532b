import re
import subprocess
import sys

import pytest

from webui.core.scripts.axes import offered
from webui.core.scripts.table import SCRIPTS as SCRIPT_TABLE
from webui.service.service import Service
from webui.ui.fields import FIELDS, TABS
from webui.ui.page import SCRIPTS, STATIC, STYLES, build_page, mount_arguments

SAVED = (  # elem_ids that users' CSS and scripts know from A1111
    *("txt2img_prompt", "txt2img_neg_prompt", "txt2img_generate", "txt2img_interrupt", "txt2img_skip", "txt2img_steps", "txt2img_seed"),
    *("img2img_prompt", "img2img_generate", "img2img_denoising_strength", "setting_checkpoint", "refresh_checkpoints"),
)


def components(service: Service) -> dict[str, dict]:
    config = build_page(service, service.settings).get_config_file()
    return {part["props"]["elem_id"]: part for part in config["components"] if part["props"].get("elem_id")}


def test_every_field_has_its_widget_in_its_tab(service: Service) -> None:
    made = components(service)
    for tab, names in TABS.items():
        for name in names:
            assert made[f"{tab}_{FIELDS[name].element}"]["props"]["interactive"] is True
    assert set(SAVED) <= set(made)


def test_nothing_is_drawn_but_what_has_a_name(service: Service) -> None:
    """What is told of a list is a component of Gradio's, too, and is drawn where it is made while the page is built."""
    parts = build_page(service, service.settings).get_config_file()["components"]
    bare = {part["type"] for part in parts if not part["props"].get("elem_id")}
    assert bare <= {"column", "row", "form", "group", "html"}
    assert [part["type"] for part in parts].count("dropdown") > 70


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_every_argument_of_a_script_has_its_widget(service: Service, tab: str) -> None:
    made = components(service)
    for script in SCRIPT_TABLE.values():
        if tab in script.tabs:
            name = re.sub(r"[^a-z_0-9]", "", script.title.lower().replace(" ", "_"))
            stem = f"script_{tab}_{name}"
            shown = [argument for argument in script.arguments(tab) if argument.shown]
            assert all(made[f"{stem}_{argument.name}"]["props"]["interactive"] for argument in shown)
    choices = made[f"script_{tab}_xyz_plot_x_type"]["props"]["choices"]
    assert [value for _, value in choices] == offered(tab)


def test_no_event_is_a_public_endpoint_or_waits_in_gradios_queue(service: Service) -> None:
    events = build_page(service, service.settings).get_config_file()["dependencies"]
    assert events
    assert all(event["api_visibility"] == "private" and event["queue"] is False for event in events)


def test_gradios_unused_queue_seldom_wakes_the_server(service: Service) -> None:
    queue = build_page(service, service.settings)._queue
    pauses = {name: value for name, value in vars(queue).items() if name.endswith("sleep_when_free")}
    assert len(pauses) == 2
    assert min(pauses.values()) >= 0.5


def test_importing_gradio_writes_no_stubs() -> None:
    """In a process of its own: here Gradio may have come before."""
    look = "print(m.create_or_modify_pyi.__name__, 'create_or_modify_pyi' in m.ComponentMeta.__new__.__code__.co_names)"
    code = f"import webui.ui.page, gradio.component_meta as m; {look}"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100).stdout
    assert told.split() == ["write_no_stub", "True"]


def test_the_page_keeps_no_session_state(service: Service) -> None:
    assert not [part for part in build_page(service, service.settings).get_config_file()["components"] if part["type"] == "state"]


def test_nothing_of_the_page_names_another_host(service: Service) -> None:
    arguments = mount_arguments(service.settings)
    text = (
        "\n".join((STATIC / name).read_text("utf-8") for name in (*SCRIPTS, *STYLES))
        + arguments["head"]
        + arguments["theme"]._get_theme_css()
    )
    assert set(re.findall(r"https?:(?://|%2F%2F)[\w.-]+", text)) <= {"http://www.w3.org"}  # the name of the SVG language, never asked


def test_every_icon_that_is_named_is_drawn() -> None:
    drawn = set(re.findall(r"--icon-([\w-]+):", (STATIC / "icons.css").read_text("utf-8")))
    scripts = "\n".join((STATIC / name).read_text("utf-8") for name in SCRIPTS)
    assert set(re.findall(r"""iconButton\("([\w-]+)""", scripts)) <= drawn
