"""What a person sees when something goes wrong, or is stopped half-way."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.conftest import Person, free_port, opened, serving

PROMPT = "a red circle on a blue background"
# What the browser's console says of a server that dies, before an answer or in the middle of one.
CUT_OFF = ("WebSocket", "ERR_CONNECTION", "ERR_CONTENT_LENGTH_MISMATCH", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE")


def test_a_job_that_fails_says_why_and_the_next_one_is_made(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 2)
    choose_checkpoint(person, "zz-large")
    person.generate("txt2img")
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "failed"
    error = page.locator("#txt2img_results .error")
    assert "zz-large" in error.inner_text()
    choose_checkpoint(person, "miniature")
    person.write("txt2img_width", 64)
    assert person.make_picture("txt2img").width == 64
    assert error.is_hidden()


def choose_checkpoint(person: Person, name: str) -> None:
    person.page.click("#setting_checkpoint input")
    person.page.locator("#setting_checkpoint [role=option]", has_text=name).click()


def test_alt_enter_skips_the_picture_in_the_making_and_the_next_is_finished(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 60)
    person.write("txt2img_batch_count", 2)
    person.write("txt2img_seed", 40)
    person.generate("txt2img")
    page.wait_for_function("easel.results.txt2img.current()?.step > 3")
    page.focus("#txt2img_prompt textarea")
    page.keyboard.press("Alt+Enter")
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "done"
    assert page.evaluate("easel.results.txt2img.pictures.map((picture) => picture.seed)") == ["41"]


def test_an_interrupt_keeps_the_pictures_that_are_finished(person: Person) -> None:
    person.write("txt2img_prompt", PROMPT)
    person.write("txt2img_steps", 40)
    person.write("txt2img_batch_count", 4)
    person.write("txt2img_seed", 70)
    person.generate("txt2img")
    person.page.wait_for_function("easel.results.txt2img.current()?.batch === 2 && easel.results.txt2img.current().step > 2")
    person.page.click("#txt2img_interrupt")
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "interrupted"
    seeds = person.page.evaluate("easel.results.txt2img.pictures.map((picture) => picture.seed)")
    assert "70" in seeds
    assert not {"72", "73"} & set(seeds)


def test_a_page_outlives_a_killed_server_and_gets_the_picture_of_the_job_that_ran(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US")
    with serving(tmp_path, port) as process:
        person = Person(context, f"http://127.0.0.1:{port}/")
        page = person.page
        person.write("txt2img_prompt", PROMPT)
        person.write("txt2img_steps", 120)
        person.write("txt2img_seed", 7)
        person.generate("txt2img")
        page.wait_for_function("easel.results.txt2img.current()?.step > 3")
        process.kill()
        process.wait(30)
    page.wait_for_function("!easel.connected")
    assert "reconnecting" in page.locator("body").inner_text()
    with serving(tmp_path, port):
        page.wait_for_function("easel.connected")
        person.wait_for_end("txt2img")
        assert person.status("txt2img") == "done"
        assert "Seed: 7" in opened(person.picture_file("txt2img")).info["parameters"]
        assert page.evaluate("easel.results.txt2img.jobs.size") == 1
        assert person.value("txt2img_prompt") == PROMPT
        page.reload()
        person.ready(page)
        assert [person.value(f"txt2img_{name}") for name in ("prompt", "steps", "seed")] == [PROMPT, "120", "7"]
        context.close()
    assert [each for each in person.complaints if not any(word in each for word in CUT_OFF)] == []


def test_a_page_that_missed_the_end_of_a_job_without_pictures_learns_of_it(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 150)
    person.generate("txt2img")
    page.wait_for_function("easel.results.txt2img.current()?.step > 3")
    page.evaluate("() => { window.reconnect = easel.connect; easel.connect = () => {}; easel.socket.close(); }")
    page.wait_for_function("!easel.connected")
    job, client = page.evaluate("[easel.results.txt2img.current().id, easel.client]")
    answer = page.request.post(f"{person.address}internal/jobs/{job}/skip?client={client}", headers={"Origin": person.address.rstrip("/")})
    assert answer.ok
    page.wait_for_timeout(1500)  # the job ends meanwhile
    page.evaluate("reconnect()")
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "done"


def test_escape_closes_an_open_list_and_leaves_the_job_alone(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 60)
    person.generate("txt2img")
    page.wait_for_function("easel.results.txt2img.current()?.step > 2")
    page.click("#txt2img_sampling input")
    page.locator("#txt2img_sampling [role=listbox]").wait_for()
    page.keyboard.press("Escape")
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "done"


def test_a_wrong_method_is_not_swallowed_by_the_page_and_a_health_check_learns_nothing(person: Person) -> None:
    ask = person.page.request
    wrong = ask.get(f"{person.address}sdapi/v1/txt2img")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert ask.get(f"{person.address}internal/ping").json() == {}
    assert ask.get(person.address).ok
