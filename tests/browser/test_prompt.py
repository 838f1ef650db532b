"""Typing prompts: weights and order by keys, history, counter, brackets, an infotext that is pasted."""

from collections.abc import Iterator

import pytest

from tests.browser.conftest import Person, Server

FIELD = "#txt2img_prompt textarea"


def typed(person: Person, text: str, caret: int | None = None, end: int | None = None) -> None:
    person.page.fill(FIELD, text)
    place = [caret if caret is not None else len(text)]
    person.page.locator(FIELD).evaluate(
        "(area, [from, to]) => { area.focus(); area.setSelectionRange(from, to); }", [*place, end or place[0]]
    )


def text(person: Person) -> str:
    return person.page.input_value(FIELD)


def test_weights_change_by_keys_and_come_back_with_undo(person: Person) -> None:
    typed(person, "a red circle", 4)
    person.page.keyboard.press("Control+ArrowUp")
    assert text(person) == "a (red:1.1) circle"
    person.page.keyboard.press("Control+ArrowUp")
    assert text(person) == "a (red:1.2) circle"
    for _ in range(2):
        person.page.keyboard.press("Control+ArrowDown")
    assert text(person) == "a red circle"
    person.page.keyboard.press("Control+ArrowDown")
    assert text(person) == "a (red:0.9) circle"
    person.page.keyboard.press("Control+z")
    assert text(person) == "a red circle"


def test_a_selection_brackets_and_a_networks_strength_are_weighed_as_wholes(person: Person) -> None:
    typed(person, "a red circle", 2, 12)
    person.page.keyboard.press("Control+ArrowUp")
    assert text(person) == "a (red circle:1.1)"
    typed(person, "(a (red) thing:1.5) x", 5)
    person.page.keyboard.press("Control+ArrowUp")
    assert text(person) == "(a (red:1.2) thing:1.5) x"
    typed(person, "x <lora:ink:0.8> y", 6)
    person.page.keyboard.press("Control+ArrowDown")
    assert text(person) == "x <lora:ink:0.75> y"


def test_parts_between_commas_move_by_keys(person: Person) -> None:
    typed(person, "one, (two, three:1.2), four", 8)
    person.page.keyboard.press("Alt+ArrowRight")
    assert text(person) == "one, four, (two, three:1.2)"
    person.page.keyboard.press("Alt+ArrowLeft")
    person.page.keyboard.press("Alt+ArrowLeft")
    assert text(person) == "(two, three:1.2), one, four"
    person.page.keyboard.press("Alt+ArrowLeft")
    assert text(person) == "(two, three:1.2), one, four"


def test_prompts_that_were_generated_come_back_by_keys(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 1)
    for prompt in ("a red circle", "a blue square"):
        typed(person, prompt)
        page.keyboard.press("Control+Enter")
        page.wait_for_function("prompt => JSON.parse(localStorage.easel_history_prompt ?? '[]')[0] === prompt", arg=prompt)
    typed(person, "a draft")
    page.keyboard.press("Alt+ArrowUp")
    assert text(person) == "a blue square"
    page.keyboard.press("Alt+ArrowUp")
    assert text(person) == "a red circle"
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Alt+ArrowDown")
    assert text(person) == "a draft"


def test_the_counter_shows_tokens_and_what_is_never_closed(person: Person) -> None:
    label = person.page.locator("#txt2img_prompt .tokens")
    typed(person, "a red circle")
    person.page.wait_for_function("document.querySelector('#txt2img_prompt .tokens').textContent === '3/75'")
    typed(person, " ".join(["cat"] * 76))
    person.page.wait_for_function("document.querySelector('#txt2img_prompt .tokens').textContent === '76/150'")
    typed(person, "a (red circle")
    person.page.wait_for_function("document.querySelector('#txt2img_prompt .tokens').textContent.includes('never closed')")
    assert label.evaluate("node => node.classList.contains('wrong')")
    typed(person, r"a \(red circle")
    person.page.wait_for_function("!document.querySelector('#txt2img_prompt .tokens').classList.contains('wrong')")


def test_an_infotext_that_is_pasted_is_offered_to_be_read(person: Person) -> None:
    page = person.page
    typed(person, "")
    page.locator(FIELD).evaluate(
        """area => { area.focus();
        area.setRangeText('a green star\\nSteps: 7, Sampler: Euler, CFG scale: 4, Seed: 5, Size: 256x256');
        area.dispatchEvent(new InputEvent('input', { inputType: 'insertFromPaste', bubbles: true })); }"""
    )
    page.click("#txt2img_prompt .found button:has-text('Apply')")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value === 'a green star'")
    assert person.value("txt2img_steps") == "7"


def test_keys_belong_to_the_input_method_while_it_composes(person: Person) -> None:
    """As Chinese is typed: the list of names, Enter and the arrows are the input method's until the words are there."""
    page = person.page
    typed(person, "a (red) circle, ", 4)
    page.locator(FIELD).evaluate("area => area.setSelectionRange(area.value.length, area.value.length)")
    session = page.context.new_cdp_session(page)
    for so_far in ("x", "xi", "xing"):
        session.send("Input.imeSetComposition", {"text": so_far, "selectionStart": len(so_far), "selectionEnd": len(so_far)})
        page.wait_for_timeout(250)  # longer than the list of names waits
    jobs = page.evaluate("easel.results.txt2img.jobs.size")
    page.locator(FIELD).evaluate(
        """area => { for (const [key, held] of [["Enter", false], ["Enter", true], ["ArrowUp", true], ["Escape", false]]) {
            area.dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey: held, bubbles: true, cancelable: true, isComposing: true }));
        } }"""
    )
    assert text(person) == "a (red) circle, xing"
    assert page.locator("[role=listbox]:visible").count() == 0
    session.send("Input.insertText", {"text": "星"})
    assert text(person) == "a (red) circle, 星"
    page.wait_for_timeout(300)
    assert page.evaluate("easel.results.txt2img.jobs.size") == jobs
    page.wait_for_function("document.querySelector('#txt2img_prompt .tokens').textContent.includes('/75')")
    page.keyboard.press("Control+z")
    assert "星" not in text(person)


@pytest.fixture
def phrases(server: Server) -> Iterator[None]:
    """A wildcard `colours` and a style `woodcut`."""
    texts = {"wildcards/colours.txt": "red\nblue\n", "styles/cuts.csv": 'name,prompt,negative_prompt\nwoodcut,"{prompt}, a woodcut",\n'}
    for name, text in texts.items():
        file = server.data_dir / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    yield
    for name in texts:
        (server.data_dir / name).unlink()


@pytest.mark.usefixtures("phrases")
def test_networks_wildcards_and_styles_are_offered_and_stand_where_the_word_was(person: Person) -> None:
    page = person.page
    area = page.locator("#txt2img_prompt textarea")
    for typed, put in (("<ink", "<lora:ink:1>"), ("__col", "__colours__"), ("woodc", "a woodcut")):
        area.fill("")
        area.press_sequentially(typed)
        page.locator("#txt2img_prompt_options [role=option]").first.wait_for()
        area.press("Tab")
        assert area.input_value() == put


def test_a_card_goes_into_the_prompt_that_was_written_into_last(person: Person) -> None:
    page = person.page
    page.click("#txt2img_extra_tabs [data-kind=lora]")
    card = page.locator("#txt2img_extra_tabs .grid").get_by_text("ink", exact=True)
    card.wait_for()
    page.click("#txt2img_neg_prompt textarea")
    card.click()
    page.wait_for_function("document.querySelector('#txt2img_neg_prompt textarea').value.startsWith('<lora:ink:')")
    assert person.value("txt2img_prompt") == ""
