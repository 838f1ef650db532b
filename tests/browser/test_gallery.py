"""The gallery tab, on a thousand pictures that lay in the outputs folder."""

import colorsys
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Person, Server
from webui.core.image_metadata import save_png

MANY = 1000
DAY = "2024-01-02"
BEGAN = 1_704_200_000  # unix seconds, of the first picture
HOSTILE = "<img src=x onerror=document.title='hurt'>"
PAINT = 4.0  # seconds until the first pictures are seen
MOST_NODES = 260  # squares in the page at once
MOST_HEAP = 30.0  # megabytes that scrolling through all may add
FRAME = 16.0  # milliseconds: a drawing that takes no longer is seen as smooth


def fill(outputs: Path, count: int) -> None:
    """Pictures as A1111 leaves them, a minute apart."""
    folder = outputs / DAY
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(number / count, 0.6, 0.9))
        image = Image.new("RGB", (96, 64 + 32 * (number % 3)), (red, green, blue))
        ImageDraw.Draw(image).text((8, 8), str(number), fill="black")
        animal = "wombat" if number % 100 == 7 else "cat"
        animal = f"{animal} {HOSTILE}" if number == 907 else animal
        settings = f"Steps: 9, Sampler: Euler, Seed: {number}, Size: 96x64, Model: model{number % 3}"
        text = f"a {animal} number {number}\nNegative prompt: dull\n{settings}"
        path = folder / f"{number:05d}-{number}.png"
        save_png(image, path, text, level=1)
        os.utime(path, (BEGAN + 60 * number, BEGAN + 60 * number))


def asked(server: Server, path: str, body: object = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(server.address + path, data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        told: dict[str, object] = json.loads(answer.read())
        return told


@pytest.fixture(scope="module")
def filled(server: Server) -> Server:
    fill(server.data_dir / "outputs", MANY)
    asked(server, "internal/gallery/look-again", {})
    end = time.monotonic() + 90
    while asked(server, "internal/gallery/count?q=number")["total"] != MANY:
        assert time.monotonic() < end, "the pictures were not taken in"
        time.sleep(0.2)
    return server


@pytest.fixture
def gallery(filled: Server, person: Person) -> Iterator[Page]:
    """The gallery with the thousand pictures, by their words; what a test puts into the trash comes back after it."""
    person.open("gallery")
    find(person.page, "number")
    yield person.page
    thrown = asked(filled, "internal/gallery?trashed=true&count=500")["pictures"]
    asked(filled, "internal/gallery/restore", {"ids": [card["id"] for card in thrown]})  # type: ignore[attr-defined]


def find(page: Page, text: str) -> None:
    page.fill("#gallery_search", text)
    page.wait_for_function("text => easel.gallery.filters.asked().get('q') === text && easel.gallery.query", arg=text)
    page.wait_for_timeout(300)
    page.wait_for_function("!easel.gallery.loading && easel.gallery.total !== null")


def total(page: Page) -> int:
    return int(page.evaluate("easel.gallery.total"))


def words(page: Page, index: int) -> str:
    return str(page.evaluate("index => easel.gallery.cards[index].words", index))


def shot(index: int) -> str:
    """The square with this place in the list, counted from 0."""
    return f"#gallery_grid .shot[aria-posinset='{index + 1}']"


def seen(page: Page) -> None:
    """Wait until every square in the window shows its picture."""
    page.wait_for_function(
        """() => { const all = [...document.querySelectorAll('#gallery_grid .shot')].filter((node) => {
            const box = node.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; });
            return all.length > 0 && all.every((node) => node.querySelector('img').naturalWidth > 0); }"""
    )


def test_a_thousand_pictures_are_seen_soon_scroll_and_leave_the_page_small(gallery: Page, person: Person) -> None:
    page = person.visit()
    began = time.monotonic()
    page.click("#open_gallery")
    seen(page)
    assert time.monotonic() - began < PAINT
    page.fill("#gallery_search", "number")
    page.wait_for_function("easel.gallery.total === 1000")
    most = 0
    for _ in range(60):
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(40)
        most = max(most, page.locator("#gallery_grid .shot").count())
        if page.evaluate("easel.gallery.cards.length === 1000 && scrollY + innerHeight > document.documentElement.scrollHeight - 5"):
            break
    page.wait_for_function("easel.gallery.cards.length === 1000")
    seen(page)
    assert most <= MOST_NODES
    assert page.evaluate("new Set(easel.gallery.cards.map((card) => card.id)).size") == 1000
    assert page.locator(shot(999)).is_visible()
    assert words(page, 999).startswith("a cat number 0")
    page.close()


@pytest.mark.slow
def test_scrolling_through_a_thousand_pictures_costs_little_memory_and_time(filled: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    person = Person(context, filled.address)
    page = person.page
    session = context.new_cdp_session(page)
    session.send("Performance.enable")

    def used() -> float:
        session.send("HeapProfiler.collectGarbage")
        told = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return float(told["JSHeapUsedSize"]) / 1e6

    person.open("gallery")
    find(page, "number")
    seen(page)
    before = used()
    page.evaluate(
        """() => { window.took = []; const draw = easel.gallery.draw.bind(easel.gallery);
            easel.gallery.draw = (anew) => { const began = performance.now(); draw(anew); took.push(performance.now() - began); }; }"""
    )
    for way in (900, -900):
        for _ in range(40):
            page.mouse.wheel(0, way)
            page.wait_for_timeout(30)
    page.wait_for_function("easel.gallery.cards.length === 1000")
    later = used()
    took = sorted(page.evaluate("took"))
    context.close()
    assert later - before < MOST_HEAP
    assert took[len(took) // 2] < FRAME


def test_words_and_filters_narrow_the_grid(gallery: Page) -> None:
    find(gallery, "wombat")
    assert total(gallery) == 10
    assert gallery.locator("#gallery_grid .shot").count() == 10
    gallery.select_option("select[aria-label=Checkpoint]", "model1")
    gallery.wait_for_function("easel.gallery.total === 4 || easel.gallery.total === 3")
    gallery.click("#gallery_mine")
    gallery.wait_for_function("easel.gallery.total === 0")
    gallery.click("#gallery_mine")
    find(gallery, "no such words <b>")
    assert gallery.locator(".gallery .nothing").inner_text() == "No picture fits."


def test_search_and_filters_are_kept_over_a_reload_and_cleared_by_one_button(gallery: Page, person: Person) -> None:
    find(gallery, "wombat")
    gallery.select_option("#gallery_checkpoint", "model1")
    gallery.select_option("#gallery_order", "oldest")
    gallery.wait_for_function("easel.gallery.total === 4 || easel.gallery.total === 3")
    found, first = total(gallery), words(gallery, 0)
    gallery.fill("#gallery_since", "2001-02-03")
    gallery.click("#gallery_favourites")
    gallery.wait_for_function("easel.gallery.total === 0")
    gallery.reload()
    person.ready(gallery)
    person.open("gallery")
    gallery.wait_for_function("easel.gallery.total === 0 && !easel.gallery.loading")
    fields = {"search": "wombat", "checkpoint": "model1", "order": "oldest", "since": "2001-02-03"}
    assert {name: gallery.locator(f"#gallery_{name}").input_value() for name in fields} == fields
    assert gallery.locator(".gallery .nothing").inner_text() == "No picture fits."
    gallery.click("#gallery_favourites")
    gallery.wait_for_function("found => easel.gallery.total === found", arg=found)
    assert words(gallery, 0) == first
    gallery.click("#gallery_clear")
    gallery.wait_for_function("many => easel.gallery.total >= many", arg=MANY)
    assert gallery.locator("#gallery_clear").is_hidden()
    gallery.reload()
    person.ready(gallery)
    assert gallery.evaluate("easel.gallery.filters.narrowing") is False
    assert gallery.locator("#gallery_order").input_value() == "oldest"  # an order hides nothing


def test_the_keyboard_alone_chooses_and_throws_away_and_undo_brings_back(gallery: Page) -> None:
    gallery.locator(shot(0)).focus()
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("Space")
    gallery.keyboard.press("Shift+ArrowRight")
    gallery.keyboard.press("Shift+ArrowRight")
    assert gallery.locator(".gallery .many").inner_text() == "3 chosen"
    first, after = words(gallery, 1), words(gallery, 4)
    gallery.keyboard.press("Delete")
    gallery.wait_for_function("easel.gallery.total === 997")
    assert words(gallery, 1) == after
    gallery.locator("#easel_toasts .act", has_text="Undo").click()
    gallery.wait_for_function("easel.gallery.total === 1000")
    gallery.wait_for_function("words => easel.gallery.cards[1].words === words", arg=first)


def test_the_trash_shows_restores_and_deletes_for_ever_when_asked_twice(gallery: Page, filled: Server) -> None:
    find(gallery, "wombat")
    gallery.locator(f"{shot(0)}").click(modifiers=["Control"])
    gallery.locator(f"{shot(2)}").click(modifiers=["Shift"])
    gallery.click("#gallery_choice_bin")
    gallery.wait_for_function("easel.gallery.total === 7")
    gallery.click("#gallery_trash")
    gallery.wait_for_function("easel.gallery.inTrash && easel.gallery.total === 3")
    gallery.locator(shot(0)).click(modifiers=["Control"])
    gallery.click("#gallery_choice_undo")
    gallery.wait_for_function("easel.gallery.total === 2")
    gallery.locator(shot(0)).click(modifiers=["Control"])
    gallery.click("#gallery_choice_close")
    gallery.locator("dialog button", has_text="Cancel").click()
    assert total(gallery) == 2
    gallery.click("#gallery_trash")
    gallery.wait_for_function("!easel.gallery.inTrash && easel.gallery.total === 8")


def test_favourites_by_star_and_key_are_kept(gallery: Page, person: Person) -> None:
    find(gallery, "wombat")
    gallery.locator(shot(3)).hover()
    gallery.locator(f"{shot(3)} .star").click()
    gallery.locator(shot(1)).focus()
    gallery.keyboard.press(".")
    gallery.click("#gallery_favourites")
    gallery.wait_for_function("easel.gallery.total === 2")
    gallery.reload()
    person.ready(gallery)
    find(gallery, "wombat")
    assert total(gallery) == gallery.locator("#gallery_grid .shot.favourite").count() == 2  # the filter is kept as well
    gallery.click("#gallery_favourites")
    gallery.wait_for_function("easel.gallery.total > 2 && !easel.gallery.loading")
    assert gallery.locator("#gallery_grid .shot.favourite").count() == 2
    for index in (1, 3):
        gallery.locator(shot(index)).focus()
        gallery.keyboard.press(".")
    gallery.wait_for_function("!easel.gallery.cards.some((card) => card.favourite)")


def test_the_large_picture_obeys_its_keys(gallery: Page) -> None:
    find(gallery, "wombat")
    gallery.locator(shot(0)).click()
    dialog = gallery.locator("dialog.shown-picture")
    dialog.locator(".infotext", has_text=HOSTILE).wait_for()  # shown as text
    assert gallery.title() != "hurt"
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("ArrowLeft")
    dialog.locator(".infotext", has_text=f"{words(gallery, 1)}\n").wait_for()
    gallery.keyboard.press("+")
    assert "scale(1.4)" in str(dialog.locator(".look img").get_attribute("style"))
    gallery.keyboard.press("0")
    gallery.keyboard.press(".")
    gallery.wait_for_function("easel.gallery.cards[1].favourite")
    gallery.keyboard.press(".")
    gallery.keyboard.press("Delete")
    gallery.wait_for_function("easel.gallery.total === 9")
    dialog.locator("#easel_toasts .act", has_text="Undo").click()
    gallery.wait_for_function("easel.gallery.total === 10")
    dialog.locator(".look").focus()
    gallery.keyboard.press("ArrowLeft")
    with gallery.expect_download() as download:
        gallery.keyboard.press("s")
    assert download.value.suggested_filename.endswith(".png")
    gallery.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert gallery.evaluate("document.activeElement.getAttribute('aria-posinset')") == "2"


def test_tags_are_added_found_and_taken_away_as_text(gallery: Page) -> None:
    find(gallery, "wombat")
    gallery.locator(shot(0)).click()
    gallery.fill("#shown_tag", "<b>best</b>")
    gallery.press("#shown_tag", "Enter")
    gallery.locator(".tags .chip", has_text="<b>best</b>").wait_for()
    gallery.keyboard.press("Escape")
    gallery.select_option("select[aria-label=Tag]", "<b>best</b>")
    gallery.wait_for_function("easel.gallery.total === 1")
    gallery.locator(shot(0)).click()
    gallery.locator(".tags .chip .tool").click()
    gallery.wait_for_selector(".tags .chip", state="detached")


def test_two_pictures_are_compared_with_a_slider(gallery: Page) -> None:
    find(gallery, "wombat")
    gallery.locator(shot(0)).click(modifiers=["Control"])
    assert gallery.locator("#gallery_choice_compare").is_disabled()
    gallery.locator(shot(1)).click(modifiers=["Control"])
    gallery.click("#gallery_choice_compare")
    slider = gallery.locator("dialog.compared input[type=range]")
    slider.fill("20")
    assert gallery.locator("dialog.compared .pair").evaluate("node => node.style.getPropertyValue('--at')") == "20%"
    clip = gallery.locator("dialog.compared .pair img").nth(1).evaluate("node => getComputedStyle(node).clipPath")
    assert "80%" in clip
    box = gallery.locator("dialog.compared .pair").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= 1400
    assert box["y"] + box["height"] <= 900  # all of it is seen
    gallery.mouse.move(box["x"] + box["width"] / 5, box["y"] + 40)
    gallery.mouse.down()
    gallery.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + 40, steps=5)
    gallery.mouse.up()
    assert float(slider.input_value()) == pytest.approx(75, abs=1)
    gallery.keyboard.press("Escape")
    gallery.wait_for_selector("dialog.compared", state="detached")


def test_chosen_pictures_come_as_a_zip(gallery: Page, tmp_path: Path) -> None:
    find(gallery, "wombat")
    gallery.locator(shot(0)).focus()
    gallery.keyboard.press("Control+a")
    with gallery.expect_download() as download:
        gallery.click("#gallery_choice_download")
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert len(archive.namelist()) == 10


def test_a_picture_made_now_arrives_and_knows_what_it_was_made_from(gallery: Page, person: Person, filled: Server) -> None:
    other = person.visit()
    other.click("#open_gallery")
    other.click("#gallery_clear")  # the search of the first window is this one's, too
    seen(other)
    person.open("txt2img")
    person.write("txt2img_prompt", "a red circle, lineage")
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    other.bring_to_front()
    other.wait_for_function("easel.gallery.cards[0].words.includes('lineage')")
    other.locator(shot(0)).click()
    other.click("#shown_send_to_img2img")
    other.wait_for_function("easel.canvases.img2img.hash")
    other.wait_for_function("document.querySelector('#img2img_prompt textarea').value.includes('lineage')")
    other.locator("#img2img_prompt textarea").fill("a blue circle, child")
    other.locator("#img2img_prompt textarea").press("Tab")
    other.locator("#img2img_steps input:not([type=range])").first.fill("2")
    other.locator("#img2img_steps input:not([type=range])").first.press("Tab")
    other.click("#img2img_generate")
    other.click("#open_gallery")
    other.wait_for_function("easel.gallery.cards[0].words.includes('child')")
    other.locator(shot(0)).click()
    parent = other.locator(".family[data-kind='Made from'] .relative", has_text="img2img")
    parent.click()
    other.locator(".family[data-kind='Made into'] .relative", has_text="img2img").wait_for()
    other.click("#shown_again")
    other.locator("#easel_toasts .note", has_text="Queued").wait_for()
    other.keyboard.press("Escape")
    other.wait_for_function("easel.gallery.cards[0].words.includes('lineage')")
    other.close()


def test_a_thumbnail_is_dragged_over_a_tab_onto_a_prompt(gallery: Page, person: Person) -> None:
    find(gallery, "wombat")
    source = gallery.locator(shot(0)).bounding_box()
    tab = gallery.locator("#open_txt2img").bounding_box()
    wanted = words(gallery, 0)
    assert source
    assert tab
    gallery.mouse.move(source["x"] + 40, source["y"] + 60)
    gallery.mouse.down()
    gallery.mouse.move(tab["x"] + 20, tab["y"] + 10, steps=6)
    gallery.wait_for_timeout(200)
    gallery.mouse.move(tab["x"] + 22, tab["y"] + 11)
    gallery.wait_for_function("easel.currentTab() === 'txt2img'")
    prompt = gallery.locator("#txt2img_prompt textarea").bounding_box()
    assert prompt
    gallery.mouse.move(prompt["x"] + 60, prompt["y"] + 20, steps=6)
    gallery.mouse.up()
    person.wait_for_value("txt2img_prompt", wanted)
    person.wait_for_value("txt2img_steps", 9)


def test_every_control_has_a_name(gallery: Page) -> None:
    gallery.locator(shot(0)).click(modifiers=["Control"])
    nameless = """() => [...document.querySelectorAll(
        '#gallery_panel :is(button, input, select, [role=option]), dialog :is(button, input)')].filter(
        (node) => node.checkVisibility() && !(node.getAttribute('aria-label') || node.textContent.trim()
        || node.labels?.length)).map((node) => node.outerHTML)"""
    assert gallery.evaluate(nameless) == []
    gallery.locator(shot(1)).click()
    gallery.wait_for_selector("#shown_again")
    assert gallery.evaluate(nameless) == []


def test_a_phone_shows_it_without_sideways_scrolling(filled: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark")
    somebody = Person(context, filled.address)
    page = somebody.page
    somebody.open("gallery")
    seen(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(shot(1)).tap()
    page.wait_for_selector("#shown_again")
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 390
    context.close()
    assert somebody.complaints == []
