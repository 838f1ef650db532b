"""The Settings tab: search, change at once, reset, files and presets shown before they are applied, keys, language, habits."""

import json
from pathlib import Path

from tests.browser.conftest import Person


def told(person: Person) -> dict[str, object]:
    return person.page.evaluate("async () => (await (await fetch('sdapi/v1/options')).json())")


def opened(person: Person) -> None:
    person.open("settings")
    person.page.wait_for_selector("#pref_jpeg_quality", state="attached")


def test_a_setting_is_found_set_at_once_and_reset(person: Person) -> None:
    page = person.page
    opened(person)
    page.fill("#settings_search", "sound")  # one of the things to choose from
    assert page.locator(".settings .line:visible select").evaluate_all("all => all.map((each) => each.id)") == ["pref_at_end"]
    page.fill("#settings_search", "quality webp")
    assert page.locator(".settings .line:visible").count() == 1
    page.fill("#pref_jpeg_quality", "91")
    page.keyboard.press("Tab")
    page.wait_for_selector(".settings .line.changed #pref_jpeg_quality")
    assert told(person)["jpeg_quality"] == 91
    page.fill("#pref_jpeg_quality", "1000")
    page.keyboard.press("Tab")
    page.wait_for_selector("#easel_toasts .note:has-text('out of range')")
    assert told(person)["jpeg_quality"] == 91
    page.click(".settings .line:visible .tool.undo")
    page.wait_for_selector(".settings .line:not(.changed) #pref_jpeg_quality")
    assert told(person)["jpeg_quality"] == 80
    page.fill("#settings_search", "brush")  # keys that cannot be changed are found, too
    assert page.locator(".settings .line:visible").all_inner_texts() == ["Size of the brush, on the canvas\n[ ]"]
    page.fill("#settings_search", "wombat")
    page.locator(".settings p", has_text="No setting fits.").wait_for()


def test_a1111s_config_is_shown_before_it_is_applied_and_a_line_can_be_left_out(person: Person, tmp_path: Path) -> None:
    page = person.page
    opened(person)
    config = {"jpeg_quality": 93, "samples_format": "webp", "outdir_samples": "/home/ann", "CLIP_stop_at_last_layers": 77}
    (tmp_path / "config.json").write_text(json.dumps(config))
    page.set_input_files("#settings_file", tmp_path / "config.json")
    page.wait_for_selector("dialog.review")
    shown = page.inner_text("dialog.review")
    assert all(words in shown for words in ("jpeg_quality", "1 settings are not known", "CLIP_stop_at_last_layers"))
    page.click("dialog.review summary")
    assert page.locator("dialog.review details p").inner_text() == "outdir_samples"
    assert told(person)["jpeg_quality"] == 80
    page.uncheck("dialog.review input[aria-label=samples_format]")
    page.click("dialog.review .apply")
    page.wait_for_selector(".settings .line.changed #pref_jpeg_quality")
    assert (told(person)["jpeg_quality"], told(person)["samples_format"]) == (93, "png")
    page.click("button:has-text('Keep as preset')")
    page.fill("dialog.review input", "prints")
    page.keyboard.press("Enter")
    page.wait_for_selector("#settings_presets option:text('prints')", state="attached")
    page.click(".settings .line.changed:has(#pref_jpeg_quality) .tool.undo")
    page.wait_for_selector(".settings .line:not(.changed) #pref_jpeg_quality")
    page.click("button:has-text('Apply preset')")
    page.click("dialog.review .apply")
    page.wait_for_selector(".settings .line.changed #pref_jpeg_quality")
    page.click("button:has-text('Remove preset')")
    page.wait_for_selector("button:has-text('Remove preset')", state="hidden")
    page.click(".settings .line.changed:has(#pref_jpeg_quality) .tool.undo")
    page.wait_for_selector(".settings .line:not(.changed) #pref_jpeg_quality")
    (tmp_path / "no.json").write_text("[1]")
    page.set_input_files("#settings_file", tmp_path / "no.json")
    page.wait_for_selector("#easel_toasts .note:has-text('holds no settings')")


def test_the_top_row_shows_what_is_chosen_for_it_also_after_a_reload(person: Person) -> None:
    page = person.page
    names = {"checkpoint": "#setting_checkpoint", "vae": "#setting_vae", "clip_skip": "#setting_clip_skip"}
    assert all(page.locator(name).count() == 1 for name in names.values())
    for choice, parts in {"no_vae": ["clip_skip"], "vae": ["vae"], "checkpoint": [], "clip_skip": ["vae", "clip_skip"]}.items():
        opened(person)
        page.select_option("#pref_quick", choice)
        page.reload()
        person.ready(page)
        assert [name for name in ("vae", "clip_skip") if page.locator(names[name]).is_visible()] == parts, choice
        assert page.locator(names["checkpoint"]).is_visible()
    page.evaluate("easel.store('quick', 'nonsense')")
    page.reload()
    person.ready(page)
    opened(person)
    assert page.locator("#pref_quick").input_value() == "clip_skip"
    assert page.locator(names["vae"]).is_visible()


def test_the_boxes_of_settings_are_square_and_the_columns_of_changes_fit_their_words(person: Person) -> None:
    page = person.page
    opened(person)
    box = page.locator("#settings_changed").bounding_box()
    assert box
    assert box["width"] == box["height"]
    page.set_input_files("#settings_file", {"name": "a.json", "mimeType": "application/json", "buffer": b'{"jpeg_quality": 55}'})
    first = page.locator("dialog.review td").first.bounding_box()
    assert first
    assert first["width"] < 60
    page.locator("dialog.review button", has_text="Close").click()


def test_keys_are_chosen_anew_and_work(person: Person) -> None:
    page = person.page
    opened(person)
    page.click("#key_next_tab")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#easel_toasts .note:has-text('taken already')")
    page.click("#key_next_tab")
    page.keyboard.press("Alt+n")
    assert page.inner_text("#key_next_tab") == "Alt+N"
    person.open("txt2img")
    page.keyboard.press("Alt+n")
    assert page.evaluate("easel.currentTab()") == "img2img"


def test_a_sound_or_a_notice_tells_of_the_end_where_the_page_is_not_looked_at(person: Person) -> None:
    page = person.page
    page.evaluate(
        """() => {
            window.told = [];
            window.answer = "denied";
            const start = OscillatorNode.prototype.start;
            OscillatorNode.prototype.start = function (when) { window.told.push("tone"); start.call(this, when); };
            window.Notification = class {
                static get permission() { return window.answer; }
                static requestPermission() { return Promise.resolve(window.answer); }
                constructor(title, { body }) { window.told.push(`${title}: ${body}`); }
            };
        }"""
    )

    def ended(looked_at: bool) -> list[str]:
        person.open("txt2img")
        page.evaluate("looked => { window.told = []; document.hasFocus = () => looked; }", looked_at)
        person.make_picture("txt2img")
        told: list[str] = page.evaluate("told")
        return told

    for name, value in (("steps", 1), ("width", 64), ("height", 64)):
        person.write(f"txt2img_{name}", value)
    opened(person)
    page.select_option("#pref_at_end", "sound")
    assert ended(looked_at=True) == []
    assert ended(looked_at=False) == ["tone", "tone"]
    opened(person)
    page.select_option("#pref_at_end", "notice")
    person.wait_for_toast("The browser was told to show no notices")
    assert ended(looked_at=False) == []
    page.evaluate("window.answer = 'granted'")
    assert ended(looked_at=False) == ["Easel: Job done"]


def test_the_page_speaks_chinese_at_once_and_after_a_reload(person: Person) -> None:
    page = person.page
    opened(person)
    page.select_option("#pref_language", "zh-CN")
    page.wait_for_selector("#open_settings:text('设置')")
    page.reload()
    person.ready(page)
    assert page.inner_text("#txt2img_generate").strip() == "生成"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    person.open("img2img")
    page.keyboard.press("Control+Enter")  # nothing to start from: a sentence of the server's
    page.wait_for_selector("#easel_toasts .note:has-text('图片')")
    person.open("settings")
    page.select_option("#pref_language", "en")
    page.wait_for_selector("#open_settings:text('Settings')")
    person.open("txt2img")
    assert page.inner_text("#txt2img_generate").strip() == "Generate"


def test_generate_goes_on_for_ever_until_it_is_told_to_stop(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 1)
    page.click("#txt2img_generate", button="right")
    page.click(".menu >> text=Generate for ever")
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .thumb').length >= 3")
    page.dispatch_event("#txt2img_generate", "contextmenu")  # the button moves whenever a job begins or ends
    page.click(".menu >> text=Stop generating for ever")
    page.wait_for_function("!easel.results.txt2img.current()")
    page.wait_for_timeout(1500)  # an order that was on its way already is carried out
    made = page.locator("#txt2img_gallery .thumb").count()
    page.wait_for_timeout(1500)
    assert page.locator("#txt2img_gallery .thumb").count() == made


def test_ctrl_enter_begins_anew_where_the_settings_say_so(person: Person) -> None:
    page = person.page
    opened(person)
    page.select_option("#pref_while_running", "restart")
    person.open("txt2img")
    person.write("txt2img_steps", 150)
    page.focus("#txt2img_prompt textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("easel.results.txt2img.current()?.step > 0")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("Array.from(easel.results.txt2img.jobs.values()).some((job) => job.status === 'interrupted')")
    page.wait_for_function("easel.results.txt2img.current()?.step > 0")
    page.keyboard.press("Escape")
    page.wait_for_function("!easel.results.txt2img.current()")
