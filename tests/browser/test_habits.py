"""What users of other programs do without looking: parameters that leave the top row alone, styles, a bin that gives back."""

import zipfile

from tests.browser.conftest import Person, Server

READ = "a fox\nNegative prompt: green\nSteps: 3, Sampler: Euler, Seed: 5, Size: 64x64, Clip skip: 2"


def read_parameters(person: Person, text: str = READ) -> None:
    person.write("txt2img_prompt", text)
    person.page.click("#txt2img_paste")
    person.wait_for_value("txt2img_prompt", "a fox")


def test_prompts_take_six_sevenths_of_the_page_and_the_buttons_beside_them_stay_where_they_are(person: Person) -> None:
    page = person.page

    def box(element: str) -> dict[str, float]:
        found = page.locator(f"#txt2img_{element}").bounding_box()
        assert found
        return dict(found)

    prompt, negative, go, stage = (box(element) for element in ("prompt", "neg_prompt", "generate", "results"))
    assert 0.8 < prompt["width"] / (go["x"] + go["width"] - prompt["x"]) < 0.9
    assert prompt["y"] + prompt["height"] <= negative["y"]
    assert negative["width"] == prompt["width"]
    assert go["x"] >= prompt["x"] + prompt["width"]
    assert go["y"] + go["height"] < stage["y"]
    tools = box("paste")
    person.write("txt2img_steps", 60)
    person.generate("txt2img")
    page.locator("#txt2img_interrupt").wait_for()
    assert box("skip")["x"] > box("interrupt")["x"]
    assert page.locator("#txt2img_interrupt").evaluate("button => button.scrollWidth <= button.clientWidth")
    assert box("paste") == tools
    page.click("#txt2img_interrupt")
    person.wait_for_end("txt2img")
    assert box("generate") == go


def test_what_comes_with_parameters_is_a_chip_that_counts_until_it_is_removed(person: Person) -> None:
    page = person.page
    read_parameters(person)
    chip = page.locator("#overrides .override[data-name=clip_skip]")
    chip.wait_for()
    assert person.value("setting_clip_skip") == "1"
    person.make_picture("txt2img")
    assert "Clip skip: 2" in page.inner_text("#txt2img_infotext")
    page.reload()
    person.ready(page)
    chip.wait_for()
    person.open("img2img")
    chip.wait_for(state="detached")  # it is the other tab's
    person.open("txt2img")
    chip.locator(".close").click()
    chip.wait_for(state="detached")
    person.make_picture("txt2img")
    assert "Clip skip" not in page.inner_text("#txt2img_infotext")


def test_a_chip_goes_into_the_top_row_by_a_click_and_away_where_the_user_chooses_there(person: Person) -> None:
    page = person.page
    read_parameters(person)
    page.click("#overrides .adopt")
    person.wait_for_value("setting_clip_skip", 2)
    assert page.locator("#overrides .override").count() == 0
    person.write("setting_clip_skip", 1)
    read_parameters(person)
    page.locator("#overrides .override").wait_for()
    person.write("setting_clip_skip", 3)
    page.locator("#overrides .override").wait_for(state="detached")


def test_cleared_prompts_come_back_by_undo_and_by_keys(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", "a red circle")
    person.write("txt2img_neg_prompt", "green")
    page.click("#txt2img_clear_prompt")
    person.wait_for_value("txt2img_prompt", "")
    page.click("#easel_toasts .act")
    person.wait_for_value("txt2img_prompt", "a red circle")
    person.wait_for_value("txt2img_neg_prompt", "green")
    page.click("#txt2img_clear_prompt")
    page.locator("#txt2img_prompt textarea").press("Control+z")
    person.wait_for_value("txt2img_prompt", "a red circle")


def test_a_style_is_made_of_the_prompts_chosen_written_into_them_renamed_deleted_and_given_back(person: Person, server: Server) -> None:
    page = person.page
    person.write("txt2img_prompt", "ink, {prompt}")
    person.write("txt2img_neg_prompt", "photo")
    page.click("#txt2img_style_edit")
    editor = page.locator("dialog.style-editor")
    editor.get_by_role("button", name="Take the prompts").click()
    page.fill("#style_name", "inky")
    page.click("#style_save")
    editor.locator("option[value=inky]").first.wait_for(state="attached")
    page.keyboard.press("Escape")
    assert 'inky,"ink, {prompt}",photo' in (server.data_dir / "styles.csv").read_text("utf-8-sig")
    person.write("txt2img_prompt", "a cat")
    choose_style(person, "inky")
    page.click("#txt2img_style_apply")
    person.wait_for_value("txt2img_prompt", "ink, a cat")
    person.wait_for_value("txt2img_neg_prompt", "photo, photo")
    choose_style(person, "inky")
    page.click("#txt2img_style_edit")
    page.fill("#style_name", "inkier")
    page.click("#style_save")
    page.locator("#txt2img_styles .token", has_text="inkier").wait_for(state="attached")
    editor.get_by_role("button", name="Delete").click()
    editor.locator("option[value=inkier]").wait_for(state="detached")
    assert "inkier" not in (server.data_dir / "styles.csv").read_text("utf-8-sig")
    page.click("#easel_toasts .act")
    editor.locator("option[value=inkier]").first.wait_for(state="attached")
    assert 'inkier,"ink, {prompt}",photo' in (server.data_dir / "styles.csv").read_text("utf-8-sig")


def test_what_is_typed_into_the_editor_of_styles_is_there_after_a_reload_until_it_is_saved_or_given_up(person: Person) -> None:
    page = person.page
    page.click("#txt2img_style_edit")
    page.fill("#style_name", "half")
    page.locator("#style_prompt").press_sequentially("half a style")
    page.reload()
    person.ready(page)
    page.click("#txt2img_style_edit")
    assert (page.input_value("#style_name"), page.input_value("#style_prompt")) == ("half", "half a style")
    page.click("#style_save")
    page.locator("#style_list option[value=half]").wait_for(state="attached")
    page.fill("#style_prompt", "another style")
    page.select_option("#style_list", "half")
    assert page.input_value("#style_prompt") == "another style"
    page.click("#style_back")
    assert page.input_value("#style_prompt") == "half a style"
    assert page.is_hidden("#style_back")


def choose_style(person: Person, name: str) -> None:
    box = person.page.locator("#txt2img_styles input")
    box.click()
    person.page.locator("#txt2img_styles [role=option]", has_text=name).dispatch_event("mousedown")
    person.page.locator("#txt2img_styles .token", has_text=name).wait_for()
    box.blur()


def test_a_part_is_switched_on_in_its_header_and_then_unfolds(person: Person) -> None:
    page = person.page
    box = page.locator("#txt2img_enable_hr input")
    box.check()
    page.wait_for_selector("#txt2img_hr > .label-wrap.open")
    person.write("txt2img_hr_scale", 1.5)
    page.click("#txt2img_hr > .label-wrap")
    page.wait_for_selector("#txt2img_hr_scale", state="hidden")
    assert box.is_visible()
    assert box.is_checked()
    person.write("txt2img_steps", 1)
    assert person.make_picture("txt2img").size == (192, 192)
    page.reload()
    person.ready(page)
    page.wait_for_function("document.querySelector('#txt2img_enable_hr input').checked")
    box.uncheck()
    assert person.make_picture("txt2img").size == (128, 128)


def test_a_button_that_shows_only_an_icon_says_what_it_does_under_the_mouse(person: Person) -> None:
    page = person.page
    page.hover("#txt2img_random_seed")
    assert page.get_attribute("#txt2img_random_seed", "title") == "Random seed for every job"
    page.click("#corner .language")
    page.wait_for_selector("html[lang=zh-CN]", state="attached")
    page.hover("#txt2img_reuse_seed")
    page.hover("#txt2img_random_seed")
    chinese = str(page.get_attribute("#txt2img_random_seed", "title"))
    assert chinese != "Random seed for every job"
    assert chinese == page.locator("#txt2img_random_seed").inner_text().strip()


def test_a_shape_takes_the_size_that_the_checkpoint_is_made_for(person: Person) -> None:
    for shape, size in (("16:9", (168, 96)), ("2:3", (104, 160)), ("1:1", (128, 128))):
        person.page.click(f"#txt2img_shapes [data-shape='{shape}']")
        person.wait_for_value("txt2img_width", size[0])
        person.wait_for_value("txt2img_height", size[1])


def test_width_and_height_are_sliders_with_swap_between(person: Person) -> None:
    page = person.page
    page.focus("#txt2img_width input[type=range]")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    person.wait_for_value("txt2img_width", 104)
    sides = [page.locator(f"#txt2img_{name}").bounding_box() for name in ("width", "res_switch", "height")]
    assert all(sides)
    middles = [box["y"] + box["height"] / 2 for box in sides if box]
    assert middles == sorted(middles)
    page.click("#txt2img_res_switch")
    person.wait_for_value("txt2img_height", 104)
    assert page.input_value("#txt2img_height input[type=range]") == "104"
    person.write("txt2img_steps", 1)
    assert person.make_picture("txt2img").size == (128, 104)


def test_what_is_typed_beyond_the_end_of_a_slider_stays(person: Person) -> None:
    for field, value in {"txt2img_width": 2560, "txt2img_steps": 151, "txt2img_batch_count": 101}.items():
        person.write(field, value)
        assert person.value(field) == str(value)
    person.write("txt2img_height", "")
    person.page.wait_for_timeout(1000)  # seconds after which a draft is kept
    person.page.reload()
    person.ready(person.page)
    person.wait_for_value("txt2img_width", 2560)
    assert person.value("txt2img_steps") == "151"
    assert not person.value("txt2img_height"), "an emptied side is as large as the checkpoint is made for"


def test_the_simple_page_hides_what_few_pictures_need_and_stays_so(person: Person) -> None:
    page = person.page
    page.click("#simple_page")
    page.wait_for_selector("#txt2img_guidance", state="hidden")
    assert page.is_visible("#txt2img_steps")
    page.reload()
    person.ready(page)
    assert page.is_hidden("#txt2img_sampler_options")
    page.click("#simple_page")
    page.wait_for_selector("#txt2img_sampler_options", state="visible")


def test_all_pictures_of_a_job_are_saved_as_a_zip(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 1)
    person.write("txt2img_batch_size", 2)
    person.make_picture("txt2img")
    with page.expect_download() as download:
        page.click("#txt2img_zip")
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 2
    assert page.is_visible("#txt2img_open_folder")  # this page's machine is the server's
