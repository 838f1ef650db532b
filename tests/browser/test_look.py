"""How every tab looks: contrast in light and dark, nothing cut off in either language, phones, and the layout against its reference."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from tests.browser.conftest import Person, Server
from tests.browser.look import CONTRAST, CUT_OFF

DESKTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
REFERENCE = Path(__file__).parent / "layout.json"  # written anew where EASEL_NEW_LAYOUT is set
LOOKS = Path(__file__).parent / "looks"  # every tab of a device, one below the other, a pixel for a square; written anew as the above
SQUARE = 16  # pixels
CLEARLY = 32  # of 255 levels
FEW = 0.005  # of all squares
# What belongs to pictures and jobs:
CONTENTS = "img, canvas, .chart, .infotext, .thumb, .shots, .note, .queue-list, .xray-body, .count, #statusline, #easel_toasts"
NEAR = 24  # pixels by which places may differ: fonts do


@pytest.fixture(scope="module")
def at_work(server: Server, browser: Browser) -> Iterator[Person]:
    """Somebody at a desk who has made a picture, so that every tab has something to show."""
    context = browser.new_context(viewport=DESKTOP, locale="en-US")
    person = Person(context, server.address)
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_steps", 3)
    person.make_picture("txt2img")
    person.page.click("#txt2img_xray")
    person.page.wait_for_selector("#xray_recording .xray-body[data-drawn]")
    yield person
    context.close()
    assert person.complaints == []


@pytest.fixture(scope="module")
def on_a_phone(at_work: Person, browser: Browser) -> Iterator[Page]:
    """The same person's phone."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, locale="en-US")
    context.add_init_script(f"localStorage.setItem('easel_client', JSON.stringify('{at_work.page.evaluate('easel.client')}'))")
    person = Person(context, at_work.address)
    person.page.locator("#txt2img_gallery .thumb").first.wait_for(state="attached")
    yield person.page
    context.close()
    assert person.complaints == []


@pytest.fixture
def desk(at_work: Person) -> Iterator[Page]:
    page = at_work.page
    page.bring_to_front()
    yield page
    page.evaluate("easel.setTheme('light'), easel.language.set('en'), easel.openTab('txt2img')")


@pytest.fixture
def phone(on_a_phone: Page) -> Iterator[Page]:
    on_a_phone.bring_to_front()
    on_a_phone.evaluate("easel.openTab('txt2img')")
    yield on_a_phone
    on_a_phone.evaluate("easel.setTheme('light'), easel.language.set('en')")


def on_each_tab(page: Page, script: str) -> dict[str, list[str]]:
    """What `script` finds, tab by tab, with all that can be unfolded open, and with cards in place of settings; only where there is any."""
    found = {}
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        page.evaluate("tab => easel.openTab(tab)", tab)
        page.evaluate("tab => document.querySelectorAll(`#tab_${tab} .label-wrap:not(.open)`).forEach((each) => each.click())", tab)
        page.evaluate("tab => document.querySelectorAll(`#tab_${tab} details`).forEach((each) => { each.open = true; })", tab)
        page.wait_for_timeout(700)
        found[tab] = page.evaluate(script)
        if page.locator(f"#{tab}_extra_tabs [data-kind='']").count():
            page.evaluate("tab => document.querySelector(`#${tab}_extra_tabs [data-kind=lora]`).click()", tab)
            page.locator(f"#{tab}_extra_tabs .card").first.wait_for()
            found[tab] += page.evaluate(script)
            page.evaluate("tab => document.querySelector(`#${tab}_extra_tabs [data-kind='']`).click()", tab)
    return {tab: what for tab, what in found.items() if what}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_that_people_need_to_read_it(desk: Page, theme: str) -> None:
    desk.evaluate("theme => easel.setTheme(theme)", theme)
    assert on_each_tab(desk, CONTRAST) == {}


@pytest.mark.parametrize("language", [pytest.param("en", marks=pytest.mark.slow), "zh-CN"])
def test_no_word_is_cut_off_and_nothing_is_beyond_the_page(desk: Page, language: str) -> None:
    desk.evaluate("language => easel.language.set(language)", language)
    assert on_each_tab(desk, CUT_OFF) == {}


@pytest.mark.parametrize("language", ["en", pytest.param("zh-CN", marks=pytest.mark.slow)])
def test_no_word_is_cut_off_on_a_phone(phone: Page, language: str) -> None:
    phone.evaluate("language => easel.language.set(language)", language)
    assert on_each_tab(phone, CUT_OFF) == {}


def test_the_chosen_look_and_language_are_remembered(desk: Page, at_work: Person) -> None:
    desk.evaluate("easel.setTheme('light')")
    desk.click("#corner .theme")
    desk.click("#corner .language")
    desk.reload()
    at_work.ready(desk)
    assert desk.evaluate("easel.isDark() && document.documentElement.lang === 'zh-CN'")
    assert "__i18n__" not in desk.content()


# Phones


def test_no_tab_of_a_phone_scrolls_sideways(phone: Page) -> None:
    wide = on_each_tab(phone, "() => document.documentElement.scrollWidth > 390 ? [String(document.documentElement.scrollWidth)] : []")
    assert wide == {}


def test_a_phone_has_generate_and_picture_before_the_settings(phone: Page) -> None:
    go = phone.locator("#txt2img_generate").bounding_box()
    stage = phone.locator("#txt2img_results .stage").bounding_box()
    settings = phone.locator("#tab_txt2img .area-settings").bounding_box()
    assert go
    assert stage
    assert settings
    assert go["y"] + go["height"] <= PHONE["height"]
    assert stage["y"] + stage["height"] <= settings["y"]


def test_on_a_phone_labels_of_one_row_stand_on_one_line_and_have_the_room_that_they_need(phone: Page) -> None:
    place = "node => { const box = node.getBoundingClientRect(); return [box.y, box.height, box.width]; }"
    label = "[data-testid=block-info]"
    vae, clip_skip = (phone.locator(f"#setting_{name} {label}").first.evaluate(place) for name in ("vae", "clip_skip"))
    assert abs(vae[0] + vae[1] / 2 - clip_skip[0] - clip_skip[1] / 2) <= 4
    phone.evaluate("document.querySelector('#txt2img_guidance > .label-wrap:not(.open)')?.click()")
    phone.locator(f"#txt2img_skip_early_cond {label}").wait_for()
    labels = phone.locator(f"#txt2img_guidance {label}").all()
    assert [each.inner_text() for each in labels if each.evaluate(place)[1] > 45] == []  # more than two lines
    phone.evaluate("easel.openTab('gallery')")
    assert phone.locator("#gallery_panel .bar-row > select:visible").first.evaluate(place)[2] > 130


def swipe(page: Page, x: float, y: float) -> None:
    """A finger that moves up by 300 pixels, and a little aside, as fingers do."""
    session = page.context.new_cdp_session(page)
    for step in range(16):
        kind = "touchMove" if step else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x + 2 * step, "y": y - 20 * step}]})
        page.wait_for_timeout(16)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()


def test_the_name_that_a_list_shows_ends_before_its_arrow(phone: Page) -> None:
    under = """() => Array.from(document.querySelectorAll("input[role=combobox]")).filter((each) => each.checkVisibility()).map((each) => {
        const style = getComputedStyle(each);
        const end = each.getBoundingClientRect().right - parseFloat(style.paddingRight);
        const arrow = each.parentElement.querySelector(".icon-wrap").getBoundingClientRect();
        return [each.ariaLabel, style.textOverflow, end <= arrow.left];
    })"""
    told = phone.evaluate(under)
    assert [name for name, how, clear in told if how != "ellipsis" or not clear] == []
    assert len(told) > 2


def test_a_swipe_over_sliders_scrolls_and_moves_none_of_them(phone: Page) -> None:
    values = "() => Array.from(document.querySelectorAll('#tab_txt2img input[type=range]'), (each) => each.value)"
    before = phone.evaluate(values)
    for element in ("steps", "cfg_scale"):
        slider = phone.locator(f"#txt2img_{element} input[type=range]")
        slider.evaluate("node => node.scrollIntoView({ block: 'center' })")
        box, scrolled = slider.bounding_box(), phone.evaluate("scrollY")
        assert box
        swipe(phone, box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
        phone.wait_for_function("scrolled => scrollY > scrolled + 100", arg=scrolled)
    assert phone.evaluate(values) == before


# The layout

BOXES = """() => {
    const parts = "#quicksettings, #tabs, #statusline, .area-prompt, .area-actions, .area-canvas, .area-settings, .area-result, "
        + ".stage, .extras .forms, .dropzone, .gallery .head, #gallery_grid, .queue-panel, .xray-head, .xray-tabs, .panels, "
        + ".merger .forms, .settings .list";
    const boxes = {};
    for (const node of document.querySelectorAll(parts)) {
        const box = node.getBoundingClientRect();
        if (!node.checkVisibility() || !box.width) continue;
        const name = node.id || String(node.className).split(" ").filter((each) => !/^(svelte|column|row|hide|gap|block)/.test(each))[0];
        boxes[`${name}`] ??= [box.x, box.y + scrollY, box.width].map(Math.round);
    }
    return boxes;
}"""


def boxes(page: Page) -> dict[str, dict[str, list[int]]]:
    """x, y and width of the parts of each tab."""
    told = {}
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        page.evaluate("tab => easel.openTab(tab)", tab)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)
        told[tab] = page.evaluate(BOXES)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("device", ["desk", "phone"])
def test_the_parts_of_every_tab_stand_where_they_stood(request: pytest.FixtureRequest, device: str) -> None:
    page = request.getfixturevalue(device)
    page.reload()  # what the tests before have unfolded is folded again
    page.wait_for_selector("html[data-easel=ready]", state="attached")
    now = boxes(page)
    known = json.loads(REFERENCE.read_text("utf-8")) if REFERENCE.exists() else {}
    if os.environ.get("EASEL_NEW_LAYOUT"):
        known[device] = now
        REFERENCE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    moved = {}
    for tab, parts in known[device].items():
        for name, place in parts.items():
            here = now[tab].get(name)
            if here is None or max(abs(a - b) for a, b in zip(here, place, strict=True)) > NEAR:
                moved[f"{tab} {name}"] = (place, here)
    assert moved == {}


def settled(page: Page, *masked: Locator) -> bytes:
    """The page's picture once it no longer changes, without what is masked."""
    before = b""
    for _ in range(20):
        page.wait_for_timeout(300)
        now = page.screenshot(mask=list(masked), animations="disabled")
        if now == before:
            break
        before = now
    return before


def squares(page: Page) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
    """The mean grey, 0 .. 255, of each square of what every tab shows first."""
    told = {}
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        page.evaluate("tab => easel.openTab(tab)", tab)
        page.evaluate("scrollTo(0, 0)")
        shown = Image.open(io.BytesIO(settled(page))).convert("L")
        small = shown.resize((shown.width // SQUARE, shown.height // SQUARE), Image.Resampling.BOX)
        told[tab] = np.asarray(small, np.float32)
    return told


def unlike(
    seen: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", expected: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"
) -> float:
    """The share of squares that are clearly lighter or darker."""
    return float((np.abs(seen - expected) > CLEARLY).mean())


@pytest.mark.slow
@pytest.mark.parametrize("device", ["desk", "phone"])
def test_every_tab_looks_as_in_its_picture(request: pytest.FixtureRequest, device: str) -> None:
    """Screenshots against those that were looked at, in squares, so that another font's letters count as the same."""
    page = request.getfixturevalue(device)
    page.reload()
    page.wait_for_selector("html[data-easel=ready]", state="attached")
    page.add_style_tag(content=f":is({CONTENTS}) {{ visibility: hidden !important; }} * {{ caret-color: transparent !important; }}")
    now = squares(page)
    path = LOOKS / f"{device}.png"
    if os.environ.get("EASEL_NEW_LAYOUT"):
        Image.fromarray(np.concatenate(list(now.values())).round().astype(np.uint8)).save(path, optimize=True)
    sheet = np.asarray(Image.open(path), np.float32)
    known = dict(zip(now, np.split(sheet, len(now)), strict=True))
    assert {tab: share for tab in now if (share := unlike(now[tab], known[tab])) > FEW} == {}
    page.add_style_tag(content=".generate { visibility: hidden !important; }")  # these eyes see what is missing
    gone = squares(page)
    assert [tab for tab in ("txt2img", "img2img", "outpaint") if unlike(gone[tab], known[tab]) <= FEW] == []


@pytest.mark.slow
def test_a_tab_looks_the_same_when_one_comes_back_to_it(desk: Page) -> None:
    desk.add_style_tag(content="* { caret-color: transparent !important; transition: none !important; }")
    tabs = desk.evaluate("Object.keys(easel.tabNames)")
    rounds: list[dict[str, bytes]] = []
    for _ in range(3):  # the first loads what tabs load when they are first seen
        rounds.append({})
        for tab in tabs:
            desk.evaluate("tab => easel.openTab(tab)", tab)
            rounds[-1][tab] = settled(desk, desk.locator("#statusline"), desk.locator("img"))  # memory and pictures do as they like
    assert [tab for tab in tabs if rounds[1][tab] != rounds[2][tab]] == []
