"""The X-ray tab: a person looks into a picture, scrubs its steps, sees where a word acts, and takes the numbers along."""

import csv
import io
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.browser.conftest import Person, Server, opened
from tests.browser.proxy import proxy_to

PROMPT = "a small green star at the left, yellow background"


def pixels(person: Person, canvas: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """What a canvas shows: (height, width, 4)."""
    read = """id => {
        const canvas = document.getElementById(id);
        return [canvas.width, canvas.height, [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]];
    }"""
    width, height, values = person.page.evaluate(read, canvas)
    return np.array(values, np.uint8).reshape(height, width, 4)


def finished(person: Person, kind: str) -> None:
    person.page.wait_for_function(
        "kind => easel.xray.told?.kind === kind && !easel.xray.told.live && easel.xray.told.status === 'done'", arg=kind
    )


# As if no step had been looked at yet: the browser itself keeps pictures, too, by their address.
UNSEEN = """() => {
  const address = easel.xray.fileAddress.bind(easel.xray);
  easel.xray.fileAddress = (name) => `${address(name)}&unseen`;
  easel.xray.studies.recording.images.clear();
}"""


def drawn(person: Person, step: int) -> None:
    person.page.wait_for_selector(f"#xray_recording .xray-body[data-drawn='{step}']")


def saved(person: Person, study: str, kind: str) -> bytes:
    with person.page.expect_download() as download:
        person.page.click(f"#xray_{study} [data-kind='{kind}']")
    return download.value.path().read_bytes()


def watched(person: Person, **fields: int) -> None:
    """Generate with "Record while generating" and look at it while it runs, from its fourth step on."""
    for field, value in {"prompt": PROMPT, **fields}.items():
        person.write(f"txt2img_{field}", value)
    person.open("xray")
    person.page.check("#xray_live")
    person.open("txt2img")
    person.generate("txt2img")
    person.open("xray")
    person.page.wait_for_function("easel.xray.told?.steps.length > 3 && easel.xray.told.live")


@pytest.fixture
def looked_into(person: Person) -> Person:
    """Somebody who has made a picture in six steps and pressed X-ray under it."""
    for field, value in {"prompt": PROMPT, "seed": 1, "steps": 6, "cfg_scale": 4}.items():
        person.write(f"txt2img_{field}", value)
    person.make_picture("txt2img")
    person.page.click("#txt2img_xray")
    finished(person, "recording")
    drawn(person, 6)
    return person


def test_scrubbing_changes_the_panels_and_the_numbers(looked_into: Person) -> None:
    person, page = looked_into, looked_into.page
    assert page.locator("#xray_recording .count").inner_text() == "6/6"
    last = {name: pixels(person, f"xray_{name}") for name in ("noisy", "noise", "denoised", "guidance")}
    page.click(".ticks [data-step='1']")
    drawn(person, 1)
    assert "sigma 14.6" in page.locator("#xray_numbers").inner_text()
    for name, before in last.items():
        assert not np.array_equal(pixels(person, f"xray_{name}"), before), name
    page.locator("#xray_step").focus()
    page.keyboard.press("ArrowRight")
    drawn(person, 2)
    chart = page.locator("#xray_chart_sigma svg")
    box = chart.bounding_box()
    assert box
    chart.click(position={"x": box["width"] - 4, "y": 20})
    drawn(person, 6)
    assert np.array_equal(pixels(person, "xray_denoised"), last["denoised"])


def test_the_finished_picture_is_the_same_and_no_second_one_is_kept(looked_into: Person) -> None:
    person, page = looked_into, looked_into.page
    made = Image.open(io.BytesIO(person.picture_file("txt2img"))).convert("RGB")
    address = page.locator("#xray_recording .final").get_attribute("src")
    assert address
    assert Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB").tobytes() == made.tobytes()
    assert page.evaluate("easel.results.txt2img.pictures.length") == 1


def test_a_word_that_is_pointed_at_shows_where_it_acts(looked_into: Person) -> None:
    person, page = looked_into, looked_into.page
    star = page.locator("#xray_chips .chip", has_text="star")
    heat = page.locator("#xray_heat")
    page.mouse.move(2, 2)  # what the last click left the mouse over may have scrolled away, and a word lie there now
    heat.wait_for(state="hidden")
    for point in (star.hover, star.focus):
        point()
        page.wait_for_selector("#xray_heat[data-word]:not([hidden])")
        page.locator("#xray_all_steps").focus()
        page.locator(".attention-head strong", has_text="Where words act").hover()
        heat.wait_for(state="hidden")
    star.click()  # a pressed word stays
    page.locator("#xray_all_steps").check()
    page.locator(".attention-head strong", has_text="Where words act").hover()
    page.wait_for_timeout(500)
    seen = pixels(person, "xray_heat")[:, :, 3].astype(float)
    middle = seen.shape[1] // 2
    assert seen[:, :middle].mean() > 1.5 * seen[:, middle:].mean()  # the star is at the left
    assert star.get_attribute("aria-pressed") == "true"
    page.locator("#xray_all_steps").uncheck()
    page.select_option("#xray_layer", index=2)
    page.wait_for_timeout(500)
    assert not np.array_equal(pixels(person, "xray_heat")[:, :, 3], seen)


def test_numbers_strip_and_moving_picture_are_saved(looked_into: Person) -> None:
    rows = list(csv.DictReader(io.StringIO(saved(looked_into, "recording", "numbers.csv").decode())))
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    assert [float(row["sigma"]) for row in rows] == sorted((float(row["sigma"]) for row in rows), reverse=True)
    looked_into.page.select_option("#xray_export_panel", "noisy")
    strip = Image.open(io.BytesIO(saved(looked_into, "recording", "strip.png")))
    assert strip.width == 6 * strip.height
    assert Image.open(io.BytesIO(saved(looked_into, "recording", "steps.gif"))).n_frames == 6  # type: ignore[attr-defined]
    tokens = list(csv.DictReader(io.StringIO(saved(looked_into, "recording", "tokens.csv").decode())))
    assert [row["text"].removesuffix("</w>") for row in tokens] == PROMPT.replace(",", " ,").split()


def test_the_ranking_tells_its_cost_before_and_what_matters_after(looked_into: Person) -> None:
    page = looked_into.page
    page.click("#xray_open_words")
    page.locator("#xray_words_cost", has_text="10 pictures of 6 steps, about").wait_for()
    page.select_option("#xray_words_by", "parts")
    page.locator("#xray_words_cost", has_text="3 pictures of 6 steps, about").wait_for()
    page.fill("#xray_words_steps", "3")
    page.locator("#xray_words_cost", has_text="3 pictures of 3 steps").wait_for()
    page.click("#xray_words_rank")
    finished(looked_into, "words")
    page.locator("#xray_words_table tr").nth(3).wait_for()
    names = page.locator("#xray_words_table th[scope=row]").all_inner_texts()
    assert names[0] == "(whole prompt)"
    assert sorted(names[1:]) == ["a small green star at the left", "yellow background"]


@pytest.mark.slow  # tests/engine/xray/test_between.py and tests/api/test_xray.py have what lies behind it
def test_the_way_to_another_seed_has_its_pictures(looked_into: Person) -> None:
    page = looked_into.page
    page.click("#xray_open_interpolation")
    page.click("#xray_between_go")
    looked_into.wait_for_toast("nothing to go to")
    page.fill("#xray_between_seed", "2")
    page.fill("#xray_between_count", "3")
    page.click("#xray_between_go")
    finished(looked_into, "interpolation")
    page.locator("#xray_interpolation .frames .thumb").nth(2).wait_for()
    page.locator("#xray_between_frame").fill("1")
    assert page.locator("#xray_interpolation .numbers").inner_text().startswith("0 %")


def test_noise_is_laid_on_a_dropped_picture(person: Person, wide_png: bytes) -> None:
    page = person.page
    person.open("xray")
    page.click("#xray_open_noising")
    page.fill("#xray_noise_levels", "0 999")
    person.drop("#xray_panel .study:not([hidden])", wide_png, "wide.png")
    finished(person, "noising")
    page.locator("#xray_noise_table tr").nth(2).wait_for()
    kept = page.locator("#xray_noising .kept figcaption", has_text="What the VAE keeps").inner_text()
    assert "dB" in kept or "no difference" in kept


def test_steps_appear_while_the_picture_is_looked_into(person: Person) -> None:
    page = person.page
    for field, value in {"prompt": PROMPT, "steps": 60, "seed": 1}.items():
        person.write(f"txt2img_{field}", value)
    person.generate("txt2img")
    person.open("xray")
    page.click("#xray_latest")  # of the job that runs
    page.wait_for_function("easel.xray.told?.steps.length > 2 && easel.xray.told.live")
    page.locator("#xray_recording .count").wait_for()
    page.get_by_role("button", name="Stop this X-ray").click()
    page.wait_for_function("!easel.xray.told.live")
    assert 2 < page.evaluate("easel.xray.told.steps.length") < 60
    person.wait_for_end("txt2img")


def test_what_generate_makes_is_recorded_while_it_runs_and_is_the_same_picture(person: Person) -> None:
    page = person.page
    for field, value in {"prompt": PROMPT, "steps": 30, "seed": 1, "cfg_scale": 4}.items():
        person.write(f"txt2img_{field}", value)
    person.make_picture("txt2img")
    alone, version = opened(person.picture_file("txt2img")), page.evaluate("easel.results.txt2img.shown.id")
    person.open("xray")
    page.check("#xray_live")
    person.open("txt2img")
    person.generate("txt2img")
    person.open("xray")
    page.wait_for_function("easel.xray.told?.steps.length > 2 && easel.xray.told.live")  # of the job itself
    finished(person, "recording")
    drawn(person, 30)
    person.open("txt2img")
    page.wait_for_function("id => easel.results.txt2img.shown?.id > id", arg=version)
    recorded = opened(person.picture_file("txt2img"))
    assert recorded.tobytes() == alone.tobytes()
    assert recorded.info["parameters"] == alone.info["parameters"]


def test_of_a_job_of_several_pictures_the_first_is_recorded_and_that_is_said(person: Person) -> None:
    page = person.page
    for field, value in {"prompt": PROMPT, "steps": 4, "seed": 1, "batch_count": 2, "batch_size": 2}.items():
        person.write(f"txt2img_{field}", value)
    person.open("xray")
    page.check("#xray_live")
    person.open("txt2img")
    person.generate("txt2img")
    person.wait_for_end("txt2img")
    ids = page.evaluate("easel.results.txt2img.pictures.filter((each) => !each.sheet).map((each) => each.id)")
    assert len(ids) == 4
    person.open("xray")
    finished(person, "recording")
    drawn(person, 4)
    page.locator(".xray-notices", has_text="Of this job's 4 pictures the first is recorded.").wait_for()
    shown = page.locator("#xray_recording .final").get_attribute("src")
    assert shown
    files = [
        opened(page.request.get(f"{person.address}internal/pictures/{number}?client={page.evaluate('easel.client')}").body())
        for number in ids
    ]
    by_seed = {file.info["parameters"].split("Seed: ")[1].split(",")[0]: file.convert("RGB").tobytes() for file in files}
    assert sorted(by_seed) == ["1", "2", "3", "4"]
    assert opened(page.request.get(shown).body()).convert("RGB").tobytes() == by_seed["1"]
    page.evaluate("id => easel.xray.ofPicture({ id })", max(ids))  # one of them by itself, made once more
    page.wait_for_function("easel.xray.told.request.base.seed === 4 && easel.xray.told.status === 'done'")
    assert page.locator(".xray-notices").is_hidden()


def test_a_recording_goes_on_behind_a_cut_connection_and_is_whole_once_it_is_back(server: Server, browser: Browser) -> None:
    with proxy_to(urlparse(server.address).port or 0) as network:
        person = Person(browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US"), f"{network.address}/")
        page = person.page
        watched(person, steps=20, width=64, height=64)
        page.click(".ticks [data-step='2']")
        drawn(person, 2)
        network.cut()
        page.wait_for_function("!easel.connected")
        page.evaluate(UNSEEN)
        page.click(".ticks [data-step='2']")
        person.wait_for_toast("The panels of this step could not be read.")
        network.mend()
        page.wait_for_function("easel.connected")
        finished(person, "recording")
        page.wait_for_function("easel.xray.told.steps.length === 20 && easel.xray.told.files.includes('picture.png')")
        page.click(".ticks [data-step='1']")
        drawn(person, 1)
        page.click(".ticks [data-step='2']")  # what could not be read is read now
        drawn(person, 2)
        person.context.close()
    lost = ("WebSocket", "ERR_")  # what the browser itself says of a cut
    assert [each for each in person.complaints if not any(word in each for word in lost)] == []


def test_a_question_that_is_lost_right_after_a_live_recording_is_opened_is_told(person: Person) -> None:
    """And is no error of the page's, which `person` would complain of."""
    page = person.page
    watched(person, steps=60)
    page.evaluate(
        """() => {
            const ask = easel.request;
            easel.request = (path, ...more) => path.includes("?after=") ? Promise.reject(new Error("a lost question")) : ask(path, ...more);
            easel.xray.try(easel.xray.open(easel.xray.told.id));
        }"""
    )
    person.wait_for_toast("a lost question")
    person.wait_for_end("txt2img")


def test_a_script_is_made_without_a_record_and_that_is_said(person: Person) -> None:
    page = person.page
    person.open("xray")
    page.check("#xray_live")
    person.open("txt2img")
    person.write("txt2img_steps", 1)
    person.choose("txt2img_script_list", "Prompt matrix")
    person.generate("txt2img")
    person.wait_for_toast("The X-ray does not record scripts: this job is made without")
    person.wait_for_end("txt2img")


def test_on_a_phone_nothing_is_wider_than_the_page_and_every_control_has_a_name(looked_into: Person) -> None:
    looked_into.page.set_viewport_size({"width": 390, "height": 844})
    assert looked_into.page.evaluate("document.documentElement.scrollWidth") == 390
    assert looked_into.page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.querySelector('.xray-tokens'))") == 0
    unnamed = looked_into.page.evaluate(
        """() => Array.from(document.querySelectorAll(".xray :is(button, input, select, textarea, a, img, canvas:not([aria-hidden]))"))
            .filter((node) => node.checkVisibility() && !node.getAttribute("aria-label") && !node.textContent.trim())
            .filter((node) => !node.labels?.length && !node.alt).map((node) => node.outerHTML)"""
    )
    assert unnamed == []


def test_words_are_shown_as_text_whatever_they_are(person: Person) -> None:
    person.write("txt2img_prompt", "<img src=x onerror=document.title='broken'> <b>red</b>")
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    person.page.click("#txt2img_xray")
    finished(person, "recording")
    assert person.page.locator("#xray_chips b, #xray_chips img, #xray_tokens img").count() == 0
    assert "broken" not in person.page.title()


def test_another_recording_stands_beside_at_the_same_part_of_its_way(looked_into: Person) -> None:
    person, page = looked_into, looked_into.page
    first = {name: pixels(person, f"xray_{name}") for name in ("noisy", "denoised")}
    before = page.evaluate("easel.xray.told.id")
    person.open("txt2img")
    person.write("txt2img_steps", 3)
    person.write("txt2img_seed", 2)
    person.make_picture("txt2img")
    person.page.click("#txt2img_xray")
    page.wait_for_function("before => easel.xray.told.id !== before && easel.xray.told.status === 'done'", arg=before)
    drawn(person, 3)
    page.select_option("#xray_compare", before)
    page.wait_for_selector(".compare-with .panels[data-drawn='6']")
    page.evaluate("document.querySelectorAll('.compare-with canvas').forEach((canvas, i) => { canvas.id = `other_${i}`; })")
    assert np.array_equal(pixels(person, "other_0"), first["noisy"])
    assert np.array_equal(pixels(person, "other_2"), first["denoised"])
    assert page.locator("#xray_chart_cosine polyline.faint").count() == 1
    page.click(".ticks [data-step='1']")
    page.wait_for_selector(".compare-with .panels[data-drawn='1']")
    page.select_option("#xray_compare", "")
    page.wait_for_selector(".compare-with .panels", state="hidden")
