from PIL import Image

from tests.browser.conftest import Person, opened

SIDE = 64  # pixels
XYZ = "script_txt2img_xyz_plot"


def plot(person: Person) -> None:
    """Fill in an X/Y/Z plot of two CFG scales and two samplers."""
    person.write("txt2img_prompt", "a red circle on a blue background")
    for name, value in (("steps", 2), ("seed", 5), ("width", SIDE), ("height", SIDE)):
        person.write(f"txt2img_{name}", value)
    person.choose("txt2img_script_list", "X/Y/Z plot")
    person.choose(f"{XYZ}_x_type", "CFG Scale")
    person.write(f"{XYZ}_x_values", "1-4 (+3)")
    person.choose(f"{XYZ}_y_type", "Sampler")
    take(person, "y", "Euler a", "LMS")


def take(person: Person, axis: str, *names: str) -> None:
    """Choose values of an axis out of its list."""
    box = person.page.locator(f"#{XYZ}_{axis}_values_dropdown input")
    for name in names:
        box.click()
        box.fill(name)
        person.page.locator(f"#{XYZ}_{axis}_values_dropdown [role=option]", has_text=name).first.dispatch_event("mousedown")
        person.page.locator(f"#{XYZ}_{axis}_values_dropdown .token", has_text=name).first.wait_for()
    box.press("Escape")


def test_a_plot_from_the_page_shows_its_sheet_whose_cells_are_the_pictures(person: Person) -> None:
    plot(person)
    person.page.locator(f"#{XYZ}_include_lone_images input").check()
    sheet = person.make_picture("txt2img").convert("RGB")
    left, top = sheet.width - 2 * SIDE, sheet.height - 2 * SIDE
    assert (left, top) > (0, 0)
    thumbs = person.page.locator("#txt2img_gallery .thumb")
    assert thumbs.count() == 5
    for number in range(4):
        thumbs.nth(1 + number).click()
        cell: Image.Image = opened(person.picture_file("txt2img")).convert("RGB")
        x, y = left + number % 2 * SIDE, top + number // 2 * SIDE
        assert sheet.crop((x, y, x + SIDE, y + SIDE)).tobytes() == cell.tobytes()
    thumbs.first.click()
    assert "X Type: CFG Scale" in person.page.locator("#txt2img_infotext").inner_text()


def test_a_sheet_alone_takes_the_place_of_its_pictures(person: Person) -> None:
    person.write("txt2img_steps", 2)
    person.write("txt2img_prompt", "a star|red|at night")
    person.choose("txt2img_script_list", "X/Y/Z plot")
    person.choose(f"{XYZ}_x_type", "Steps")
    person.write(f"{XYZ}_x_values", "1,2")
    person.make_picture("txt2img")
    assert person.page.locator("#txt2img_gallery .thumb").count() == 1


def test_what_is_wrong_with_a_script_is_told(person: Person) -> None:
    person.choose("txt2img_script_list", "X/Y/Z plot")
    person.choose(f"{XYZ}_x_type", "Steps")
    person.write(f"{XYZ}_x_values", "many")
    person.page.click("#txt2img_generate")
    person.wait_for_toast("whole number")


def test_axes_are_swapped_filled_and_kept_over_a_reload(person: Person) -> None:
    plot(person)
    person.page.click(f"#{XYZ}_xy_swap")
    person.wait_for_value(f"{XYZ}_y_type", "CFG Scale")
    person.wait_for_value(f"{XYZ}_y_values", "1-4 (+3)")
    person.wait_for_value(f"{XYZ}_x_type", "Sampler")
    person.page.click(f"#{XYZ}_fill_x")
    tokens = person.page.locator(f"#{XYZ}_x_values_dropdown .token")
    person.page.wait_for_function(f"document.querySelectorAll('#{XYZ}_x_values_dropdown .token').length > 8")
    person.page.wait_for_timeout(500)
    count = tokens.count()
    person.page.reload()
    person.ready(person.page)
    person.wait_for_value("txt2img_script_list", "X/Y/Z plot")
    person.page.locator(f"#{XYZ}_panel").wait_for()
    person.wait_for_value(f"{XYZ}_y_values", "1-4 (+3)")
    person.page.wait_for_function(f"document.querySelectorAll('#{XYZ}_x_values_dropdown .token').length === {count}")


def test_a_sheets_parameters_bring_its_script_back(person: Person) -> None:
    plot(person)
    person.make_picture("txt2img")
    person.choose("txt2img_script_list", "None")
    person.write("txt2img_prompt", "")
    person.page.click("#txt2img_paste")
    person.wait_for_value("txt2img_script_list", "X/Y/Z plot")
    person.wait_for_value(f"{XYZ}_x_values", "1-4 (+3)")
    person.wait_for_value(f"{XYZ}_y_type", "Sampler")
    person.page.wait_for_function(f"document.querySelectorAll('#{XYZ}_y_values_dropdown .token').length === 2")


def test_prompts_come_out_of_a_file(person: Person) -> None:
    person.choose("txt2img_script_list", "Prompts from file")
    with person.page.expect_file_chooser() as chooser:
        person.page.click("#script_txt2img_prompts_from_file_or_textbox_file")
    chooser.value.set_files({"name": "prompts.txt", "mimeType": "text/plain", "buffer": b"a star\n--prompt 'a moon' --steps 1"})
    person.wait_for_value("script_txt2img_prompts_from_file_or_textbox_prompt_txt", "a star\n--prompt 'a moon' --steps 1")
    for name, value in (("steps", 1), ("width", SIDE), ("height", SIDE)):
        person.write(f"txt2img_{name}", value)
    person.make_picture("txt2img")
    assert person.page.locator("#txt2img_gallery .thumb").count() == 2
    assert person.page.locator("#txt2img_infotext").inner_text().startswith("a star")


def test_on_a_phone_the_last_setting_can_be_scrolled_clear_of_generate(person: Person) -> None:
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_function(
        "document.querySelector('#txt2img_script_list').getBoundingClientRect().bottom"
        " < document.querySelector('#tab_txt2img .go').getBoundingClientRect().top"
    )
