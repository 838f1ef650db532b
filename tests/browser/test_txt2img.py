from tests.browser.conftest import Person, Server, opened

PROMPT = "a red circle on a blue background"


def test_type_generate_see_the_preview_move_and_get_the_same_pixels_again_from_the_file(person: Person, server: Server) -> None:
    page = person.page
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 16)
    page.evaluate(
        """() => {
            window.previews = new Set();
            window.percents = new Set();
            const [preview, bar] = [".preview", "[role=progressbar]"].map((part) => document.querySelector(`#txt2img_results ${part}`));
            setInterval(() => {
                if (!preview.hidden) previews.add(preview.src);
                percents.add(bar.getAttribute("aria-valuenow"));
            }, 30);
        }"""
    )
    picture = person.make_picture("txt2img")
    assert page.evaluate("previews.size") >= 2
    assert page.evaluate("percents.size") >= 3
    data = person.picture_file("txt2img")
    assert any(path.read_bytes() == data for path in (server.data_dir / "outputs").rglob("*.png"))
    infotext = page.locator("#txt2img_infotext").inner_text()
    assert infotext == opened(data).info["parameters"]
    assert infotext.startswith(PROMPT)

    person.open("png_info")
    person.drop("#pnginfo_panel .dropzone", data, "that very file.png")
    page.wait_for_function("text => document.querySelector('#pnginfo_text').textContent === text", arg=infotext)
    assert "Easel" in page.locator("#pnginfo_source").inner_text()
    person.open("txt2img")
    person.write("txt2img_prompt", "something else")
    person.write("txt2img_steps", 2)
    person.open("png_info")
    page.click("#pnginfo_send_to_txt2img")
    person.wait_for_value("txt2img_prompt", PROMPT)
    person.wait_for_value("txt2img_steps", 16)
    again = person.make_picture("txt2img")
    assert again.tobytes() == picture.tobytes()


def test_a_picture_dropped_on_the_prompt_fills_the_tab_and_the_dice_and_recycle_set_the_seed(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_neg_prompt", "green")
    person.write("txt2img_steps", 3)
    person.write("txt2img_seed", 12345)
    person.write("txt2img_width", 96)
    person.make_picture("txt2img")
    data = person.picture_file("txt2img")
    page.click("#txt2img_random_seed")
    person.wait_for_value("txt2img_seed", -1)
    page.click("#txt2img_reuse_seed")
    person.wait_for_value("txt2img_seed", 12345)
    for element in ("txt2img_prompt", "txt2img_neg_prompt"):
        person.write(element, "")
    person.write("txt2img_width", 64)
    person.drop("#txt2img_prompt textarea", data, "picture.png")
    for element, value in (("prompt", PROMPT), ("neg_prompt", "green"), ("steps", 3), ("width", 96)):
        person.wait_for_value(f"txt2img_{element}", value)
    height = person.value("txt2img_height")
    page.click("#txt2img_res_switch")
    person.wait_for_value("txt2img_height", 96)
    person.wait_for_value("txt2img_width", height)


def test_infotext_in_the_prompt_is_read_by_the_paste_arrow(person: Person) -> None:
    person.write("txt2img_prompt", "a tree\nNegative prompt: sea\nSteps: 11, Sampler: Euler a, CFG scale: 5.5, Seed: 77, Size: 64x128")
    person.page.click("#txt2img_paste")
    for element, value in (
        ("prompt", "a tree"),
        ("neg_prompt", "sea"),
        ("steps", 11),
        ("seed", 77),
        ("cfg_scale", 5.5),
        ("sampling", "Euler a"),
    ):
        person.wait_for_value(f"txt2img_{element}", value)


def test_a_real_click_on_interrupt_lands_while_steps_arrive_and_escape_does_the_same(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 150)
    person.write("txt2img_batch_count", 20)
    for stop in ("click", "key"):
        person.generate("txt2img")
        page.wait_for_function("easel.results.txt2img.current()?.step > 3")
        if stop == "click":
            box = page.locator("#txt2img_interrupt").bounding_box()
            assert box
            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        else:
            page.keyboard.press("Escape")
        person.wait_for_end("txt2img")
        assert person.status("txt2img") == "interrupted"
    assert page.locator("#txt2img_generate").is_visible()


def test_a_job_survives_a_reload_is_seen_in_a_second_tab_and_the_fields_come_back(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 60)
    person.generate("txt2img")
    page.wait_for_function("easel.results.txt2img.current()?.step > 3")
    page.reload()
    person.ready(page)
    second = person.visit()
    assert person.value("txt2img_prompt") == PROMPT
    for each in (page, second):
        each.bring_to_front()
        each.wait_for_selector("html:not(.busy-txt2img)", state="attached")
        each.locator("#txt2img_gallery .thumb").first.wait_for()
        assert "Steps: 60" in each.locator("#txt2img_infotext").inner_text()


def test_three_quick_ctrl_enters_make_three_pictures_in_order(person: Person) -> None:
    person.write("txt2img_steps", 2)
    for seed in (1, 2, 3):
        person.write("txt2img_seed", seed)
        person.page.focus("#txt2img_prompt textarea")
        person.page.keyboard.press("Control+Enter")
        person.page.wait_for_function("count => easel.results.txt2img.jobs.size === count", arg=seed)
    person.page.wait_for_function("document.querySelectorAll('#txt2img_gallery .thumb').length === 3")
    assert person.page.evaluate("easel.results.txt2img.pictures.map((picture) => picture.seed)") == ["3", "2", "1"]


def test_the_top_row_shows_three_settings_and_no_more(person: Person) -> None:
    labels = person.page.locator("#quicksettings [data-testid=block-info]").all_inner_texts()
    assert labels == ["Checkpoint", "VAE", "CLIP skip"]


def test_bad_input_is_told_in_a_toast_and_the_page_goes_on(person: Person) -> None:
    person.write("txt2img_width", 100)
    person.page.click("#txt2img_generate")
    person.wait_for_toast("multiple of 8")
    person.write("txt2img_width", 64)
    person.write("txt2img_seed", "abc")
    person.page.click("#txt2img_generate")
    person.wait_for_toast("not a whole number")
    person.write("txt2img_seed", "5")
    person.write("txt2img_steps", 2)
    assert person.make_picture("txt2img").width == 64


def test_a_phone_shows_everything_without_scrolling_sideways(person: Person) -> None:
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("txt2img", "img2img", "outpaint", "png_info", "merger"):
        person.open(tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    person.open("txt2img")
    box = page.locator("#txt2img_generate").bounding_box()
    assert box
    assert box["y"] + box["height"] <= 844


def test_sizes_follow_the_checkpoint_until_they_are_chosen(person: Person) -> None:
    page = person.page
    native = person.value("txt2img_width")
    for checkpoint, chosen, expected in (("zz-large", None, 512), ("zz-large", 640, 640)):
        if chosen:
            person.write("txt2img_width", chosen)
        page.click("#setting_checkpoint input")
        page.locator("#setting_checkpoint [role=option]").first.click()
        page.click("#setting_checkpoint input")
        page.locator("#setting_checkpoint [role=option]", has_text=checkpoint).click()
        person.wait_for_value("txt2img_width", expected)
    person.wait_for_value("txt2img_height", 512)
    assert native != "512"
