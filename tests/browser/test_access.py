"""For those who see nothing, or have no mouse: what Chromium tells screen readers, and the whole way to a picture by keyboard."""

from typing import Any

from playwright.sync_api import Browser, Page

from tests.browser.conftest import Person

MUST_BE_NAMED = {
    *("button", "textbox", "checkbox", "combobox", "slider", "spinbutton", "radio", "tab", "link", "listbox", "option", "searchbox"),
    *("image", "progressbar", "dialog", "toolbar", "tabpanel", "tablist", "radiogroup", "ColorWell", "Date", "menuitem", "switch"),
}


def nameless(page: Page) -> list[str]:
    """Controls that Chromium's accessibility tree has no name for."""
    session = page.context.new_cdp_session(page)
    session.send("Accessibility.enable")
    found = []
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in MUST_BE_NAMED or node.get("name", {}).get("value", "").strip():
            continue
        described = session.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})["node"]
        if described["nodeName"] == "svg":
            continue  # drawings within controls, which have the names
        found.append(f"{role}: {described['nodeName']} {described.get('attributes', [])}"[:240])
    session.detach()
    return found


def told(page: Page, role: str) -> list[dict[str, Any]]:
    """What screen readers are told of all things of this role."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [node for node in nodes if not node.get("ignored") and node.get("role", {}).get("value") == role]


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('.label-wrap:not(.open)').forEach((each) => each.checkVisibility() && each.click())")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def test_every_control_of_every_tab_has_a_name(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    page.click("#txt2img_send_to_inpaint")
    page.wait_for_function("Boolean(easel.canvases.img2img.hash)")
    found = {}
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        person.open(tab)
        unfold(page)
        page.wait_for_timeout(700)
        found[tab] = nameless(page)
    assert {tab: what for tab, what in found.items() if what} == {}


def test_ids_are_unique_and_what_names_point_to_is_there(person: Person) -> None:
    page = person.page
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        person.open(tab)
    page.wait_for_timeout(500)
    twice = page.evaluate(
        """() => { const seen = new Set(); return Array.from(document.querySelectorAll("[id]:not([id=''])"), (node) => node.id)
            .filter((id) => seen.has(id) || !seen.add(id)); }"""
    )
    assert twice == []
    nowhere = page.evaluate(
        """() => Array.from(document.querySelectorAll("[aria-controls], [aria-labelledby], [aria-describedby]"))
            .filter((node) => node.checkVisibility() && node.getAttribute("aria-expanded") !== "false")
            .filter((node) => !node.matches("[aria-autocomplete]"))
            .flatMap((node) => ["aria-controls", "aria-labelledby", "aria-describedby"].map((name) => node.getAttribute(name) ?? ""))
            .flatMap((names) => names.split(/\\s+/))
            .filter((id) => id && !document.getElementById(id))"""
    )
    assert nowhere == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title() == "Easel"


def test_tabs_say_which_panel_they_open(person: Person) -> None:
    person.open("gallery")
    chosen = [
        tab["name"]["value"]
        for tab in told(person.page, "tab")
        if {"name": "selected", "value": {"type": "booleanOrUndefined", "value": True}} in tab["properties"]
    ]
    assert "Gallery" in chosen
    assert [panel["name"]["value"] for panel in told(person.page, "tabpanel")] == ["Gallery"]


def test_a_running_job_is_a_progress_bar_with_a_value_in_words(person: Person) -> None:
    person.write("txt2img_steps", 150)
    person.generate("txt2img")
    person.page.wait_for_function("easel.results.txt2img.current()?.step > 20")
    (bar,) = told(person.page, "progressbar")
    assert bar["name"]["value"] == "Progress"
    facts = {each["name"]: each["value"].get("value") for each in bar["properties"]}
    assert (facts["valuemin"], facts["valuemax"]) == (0, 100)
    assert "step" in str(person.page.locator("#txt2img_results [role=progressbar]").get_attribute("aria-valuetext"))
    assert 0 < float(bar["value"]["value"]) < 100
    person.page.keyboard.press("Escape")
    person.wait_for_end("txt2img")


def focused(page: Page) -> str:
    """Where the keyboard is: the nearest id."""
    return str(page.evaluate("document.activeElement.closest('[id]')?.id ?? ''"))


def tab_to(page: Page, element: str, most: int = 80) -> None:
    """Press Tab until the keyboard is on, or in, the element with this id."""
    inside = "id => Boolean(document.activeElement.closest(`#${id}`))"
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(inside, element):
            return
    raise AssertionError(f"{element} is not reached by Tab; the keyboard is at {focused(page)}")


def test_from_the_first_key_to_the_saved_picture_without_a_mouse(person: Person) -> None:
    page = person.page
    tab_to(page, "open_txt2img")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("easel.currentTab()") == "img2img"
    page.keyboard.press("ArrowLeft")
    tab_to(page, "txt2img_prompt")
    page.keyboard.type("a red circle on a blue background")
    tab_to(page, "txt2img_neg_prompt")
    page.keyboard.type("green")
    tab_to(page, "txt2img_generate", 12)  # soon after the prompts
    tab_to(page, "txt2img_sampling")
    page.keyboard.press("Control+a")
    page.keyboard.type("HeunPP2")
    page.wait_for_function("document.querySelector('#txt2img_sampling [role=option].active')?.ariaLabel === 'HeunPP2'")
    page.wait_for_timeout(300)  # Gradio filters its list once more after the last key
    page.keyboard.press("Enter")
    page.locator("#txt2img_sampling [role=option]").first.wait_for(state="detached")
    tab_to(page, "txt2img_steps")
    person.wait_for_value("txt2img_sampling", "HeunPP2")  # what is only typed is gone when the list is left
    page.keyboard.press("Control+a")
    page.keyboard.type("4")
    tab_to(page, "txt2img_enable_hr")
    tab_to(page, "txt2img_hr")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("easel.results.txt2img.jobs.size === 1")
    person.wait_for_end("txt2img")
    infotext = page.locator("#txt2img_infotext").inner_text()
    for words in ("a red circle on a blue background", "Negative prompt: green", "Steps: 4,", "Sampler: HeunPP2,"):
        assert words in infotext
    tab_to(page, "txt2img_results")
    look = page.locator("#txt2img_results .view")
    for _ in range(6):
        if look.evaluate("node => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("dialog.large").wait_for()
    page.keyboard.press("+")
    assert "scale(1.4)" in str(page.locator("dialog.large img").get_attribute("style"))
    page.keyboard.press("0")
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename.endswith(".png")
    page.keyboard.press("Escape")
    page.locator("dialog.large").wait_for(state="detached")


def test_those_who_want_no_motion_see_none(person: Person, browser: Browser) -> None:
    context = browser.new_context(reduced_motion="reduce", locale="en-US")
    other = Person(context, person.address)
    moving = other.page.evaluate(
        """() => Array.from(document.querySelectorAll("*")).filter((node) => !node.closest("svg") && node.checkVisibility())
            .filter((node) => parseFloat(getComputedStyle(node).animationDuration) > 0.01).map((node) => node.className)"""
    )
    context.close()
    assert moving == []
