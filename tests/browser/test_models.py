"""Model files in the page: cards, what is known of a file, names offered while one types."""

import shutil

from tests.browser.conftest import Person, Server, opened

TAG = "<lora:ink:1>"


def open_cards(person: Person) -> None:
    person.page.locator("#txt2img_extra_tabs [data-kind=lora]").click()
    person.page.locator("#txt2img_extra_tabs .card[data-name='ink.safetensors']").wait_for()


def test_a_cards_click_puts_a_lora_into_the_prompt_and_out_again_and_the_picture_names_it(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", "a red circle")
    open_cards(person)
    card = page.locator("#txt2img_extra_tabs .card[data-name='ink.safetensors'] .take")
    card.click()
    assert person.value("txt2img_prompt") == f"a red circle, {TAG}"
    card.click()
    assert person.value("txt2img_prompt") == "a red circle"
    card.click()
    page.click("#txt2img_extra_tabs [data-kind='']")
    person.write("txt2img_steps", 2)
    infotext = opened_text(person)
    assert infotext.startswith(f"a red circle, {TAG}")
    assert 'Lora hashes: "ink: ' in infotext


def opened_text(person: Person) -> str:
    person.make_picture("txt2img")
    return str(opened(person.picture_file("txt2img")).info["parameters"])


def test_the_cards_tabs_stand_beside_the_settings_and_take_their_place(person: Person) -> None:
    page = person.page
    page.locator("#txt2img_steps").wait_for()
    tabs = page.locator("#txt2img_extra_tabs [role=tab]")
    assert tabs.all_inner_texts() == ["Generation", "LoRA", "Embeddings", "Hypernetworks", "Checkpoints"]
    for name, kind in (("LoRA", "lora"), ("Checkpoints", "checkpoint")):
        page.locator("#txt2img_extra_tabs").get_by_role("tab", name=name).click()
        page.locator("#txt2img_extra_tabs .card").first.wait_for()
        selected = page.locator("#txt2img_extra_tabs [aria-selected=true]")
        assert selected.get_attribute("data-kind") == kind
        assert page.locator(f"#{selected.get_attribute('aria-controls')}[role=tabpanel]").is_visible()
        assert not page.locator("#txt2img_steps").is_visible()
        assert page.locator("#txt2img_prompt").is_visible()
        assert page.locator("#txt2img_generate").is_visible()
    page.locator("#txt2img_extra_tabs").get_by_role("tab", name="Generation").click()
    assert page.locator("#txt2img_steps").is_visible()
    assert not page.locator("#txt2img_extra_tabs .card").first.is_visible()


def test_a_folders_cards_are_shown_alone(person: Person, server: Server) -> None:
    page, folder = person.page, server.data_dir / "loras" / "drawings" / "old"
    person.page.locator("#txt2img_extra_tabs [data-kind=lora]").click()
    cards = page.locator("#txt2img_extra_tabs .card .name")
    cards.first.wait_for()
    choice = page.locator("#txt2img_extra_tabs select[aria-label=Folder]")
    assert choice.is_hidden()  # all lie in one
    folder.mkdir(parents=True)
    shutil.copy(server.data_dir / "loras" / "ink.safetensors", folder / "quill.safetensors")
    try:
        page.locator("#txt2img_extra_tabs button[aria-label='Look for new files']").click()
        choice.wait_for()
        assert [each.strip() for each in choice.locator("option").all_inner_texts()] == ["All folders", "drawings", "old"]
        everywhere = cards.count()
        choice.select_option("drawings")
        page.wait_for_function("many => document.querySelectorAll('#txt2img_extra_tabs .card').length < many", arg=everywhere)
        assert cards.all_inner_texts() == ["drawings/old/quill"]
        page.locator("#txt2img_extra_tabs [data-kind=embedding]").click()
        page.locator("#txt2img_extra_tabs [data-kind=lora]").click()
        page.locator("#txt2img_extra_tabs .card[data-name='ink.safetensors']").wait_for()
    finally:
        shutil.rmtree(folder.parent)
        page.request.post(f"{server.address}internal/models/refresh")


def test_what_a_user_writes_about_a_file_and_the_last_picture_stay_beside_it(person: Person, server: Server) -> None:
    page = person.page
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    open_cards(person)
    about = page.locator("#txt2img_extra_tabs .card[data-name='ink.safetensors'] .info")
    about.click()
    dialog = page.locator("dialog.about")
    dialog.locator("label", has_text="Description").locator("textarea").fill("black ink <b>on</b> paper")
    dialog.get_by_role("button", name="Save").click()
    page.locator(".card[data-name='ink.safetensors'] .take[title='black ink <b>on</b> paper']").wait_for()
    about.click()
    dialog.get_by_role("button", name="Use the picture shown").click()
    page.locator(".card[data-name='ink.safetensors'] img").wait_for()
    assert (server.data_dir / "loras" / "ink.preview.png").exists()
    assert "black ink" in (server.data_dir / "loras" / "ink.json").read_text("utf-8")


def test_a_card_brings_its_words_to_both_prompts_and_takes_the_triggers_out_again(person: Person, server: Server) -> None:
    page, sidecar = person.page, server.data_dir / "loras" / "ink.json"
    words = {"triggers": "inky lines", "negative": "colour, blurry"}
    assert page.request.post(f"{server.address}internal/models/lora/ink.safetensors/sidecar", data=words).ok
    try:
        person.write("txt2img_neg_prompt", "text")
        person.write("txt2img_prompt", "a red circle")  # where one wrote last the card goes
        open_cards(person)
        card = page.locator("#txt2img_extra_tabs .card[data-name='ink.safetensors'] .take")
        card.click()
        assert person.value("txt2img_prompt") == f"a red circle, {TAG}, inky lines"
        assert person.value("txt2img_neg_prompt") == "text, colour, blurry"
        card.click()
        assert person.value("txt2img_prompt") == "a red circle"
        card.click()
        assert person.value("txt2img_prompt") == f"a red circle, {TAG}, inky lines"
        assert person.value("txt2img_neg_prompt") == "text, colour, blurry"
    finally:
        sidecar.unlink()


def test_names_are_offered_while_one_types_and_taken_by_keyboard(person: Person) -> None:
    page = person.page
    area = page.locator("#txt2img_prompt textarea")
    area.click()
    area.press_sequentially("a cat <lora:in")
    page.locator("#txt2img_prompt [role=option]", has_text="ink").wait_for()
    area.press("Tab")
    assert person.value("txt2img_prompt") == f"a cat {TAG}"
    area.press("Control+z")
    assert "<lora:in" in person.value("txt2img_prompt")


def test_a_checkpoints_card_is_chosen_as_in_the_top_row(person: Person) -> None:
    page = person.page
    page.locator("#txt2img_extra_tabs [data-kind=checkpoint]").click()
    page.locator("#txt2img_extra_tabs .card[data-name='easel-miniature.safetensors'] .take").wait_for()
    page.locator("#txt2img_extra_tabs .card[data-name='zz-large.safetensors'] .take").click()
    person.wait_for_value("txt2img_width", 512)
    assert "zz-large" in page.locator("#setting_checkpoint input").input_value()


def test_the_models_tab_tells_how_many_pictures_used_a_file_and_shows_them(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", f"a red circle, {TAG}")
    person.write("txt2img_steps", 1)
    person.make_picture("txt2img")
    person.open("merger")
    page.locator("#models_cards .card[data-name='ink.safetensors'] .info").click()
    used = page.locator("dialog.about button", has_text="Used by")
    used.wait_for()
    many = int("".join(filter(str.isdigit, used.inner_text())))
    assert many >= 1
    used.click()
    page.wait_for_function("many => easel.gallery.cards.length === many", arg=many)
    assert page.locator("#gallery_panel select[aria-label=LoRA]").input_value() == "ink"


def test_a_card_of_the_models_tab_goes_into_the_prompt_of_txt2img(person: Person) -> None:
    person.open("merger")
    person.page.locator("#models_cards .card[data-name='ink.safetensors'] .take").click()
    person.page.locator("#txt2img_generate").wait_for()
    assert person.value("txt2img_prompt").startswith(TAG)
