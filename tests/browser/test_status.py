"""The status line: what it tells, and that it never covers anything."""

import re

from tests.browser.conftest import Person

MACHINE = re.compile(r"CPU\s*[\d.]+ / [\d.]+ GB")


def shown(person: Person) -> str:
    return " ".join(person.page.locator("#statusline").inner_text().split())


def wait_for_text(person: Person, text: str) -> None:
    person.page.wait_for_function("text => document.querySelector('#statusline').innerText.includes(text)", arg=text)


def test_it_tells_connection_jobs_and_the_devices_memory(person: Person) -> None:
    person.page.wait_for_selector(".statusline .device")
    wait_for_text(person, "idle")
    assert re.fullmatch(r"connected idle CPU [\d.]+ / [\d.]+ GB", shown(person))
    person.write("txt2img_steps", 150)
    for _ in range(2):
        person.generate("txt2img")
    wait_for_text(person, "1 running, 1 waiting")
    person.page.evaluate(
        "Promise.all(Array.from(easel.results.txt2img.jobs.keys(), (id) => "
        "easel.request(`internal/jobs/${id}/interrupt?client=${easel.client}`, { method: 'POST' })))"
    )
    wait_for_text(person, "idle")


def test_jobs_of_other_programs_are_counted_too(person: Person) -> None:
    asked = "fetch('sdapi/v1/txt2img', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(request) })"
    person.page.evaluate(f"request => {{ window.asked = {asked}; }}", {"prompt": "a", "steps": 150, "width": 64, "height": 64})
    wait_for_text(person, "1 running")
    person.page.evaluate("async () => { await fetch('sdapi/v1/interrupt', { method: 'POST' }); await window.asked; }")
    wait_for_text(person, "idle")


def test_a_lost_connection_is_told(person: Person) -> None:
    person.page.wait_for_selector(".statusline .device")
    person.page.evaluate("() => { easel.connect = () => {}; easel.socket.close(); }")
    wait_for_text(person, "reconnecting")
    assert person.page.locator(".statusline .device").count() == 0  # nothing old is shown as if it were true


def test_several_devices_stand_in_groups(person: Person) -> None:
    person.page.wait_for_selector(".statusline .device")
    card = {"name": "NVIDIA H200", "host": "a", "state": "ready", "busy": True, "card": True, "used": 7.5, "total": 140}
    core = {"name": "CPU", "host": "b", "state": "ready", "busy": False, "card": False, "used": 5, "total": 23.5}
    devices = [card, {**card, "used": 2.5, "state": "restarting: it was killed"}, core, core]
    person.page.evaluate(
        "status => { easel.socket.onmessage = null; easel.setStatus(status); }", {"devices": devices, "running": 2, "waiting": 0}
    )
    assert shown(person) == "connected, 3 of 4 workers ready 2 running 2 × NVIDIA H200 10.0 / 280.0 GB 2 × CPU 5.0 / 23.5 GB"
    title = person.page.locator(".statusline .device").first.get_attribute("title")
    assert title == "NVIDIA H200 (a): working, 7.5 / 140.0 GB\nNVIDIA H200 (a): working, 2.5 / 140.0 GB"


def test_on_a_phone_it_stands_below_generate_and_covers_nothing(person: Person) -> None:
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_selector(".statusline .device", state="attached")
    line, go = page.locator("#statusline").bounding_box(), page.locator("#txt2img_generate").bounding_box()
    assert line
    assert go
    assert line["y"] + line["height"] == 844
    assert go["y"] + go["height"] <= line["y"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert MACHINE.sub("", shown(person)).startswith("connected idle")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    settings = "[...document.querySelectorAll('#tab_txt2img .area-settings .block')]"
    last = page.evaluate(f"Math.max(...{settings}.map((each) => each.getBoundingClientRect().bottom))")
    assert last <= go["y"]
    page.evaluate("easel.toast('a sentence')")
    note = page.locator("#easel_toasts .note").bounding_box()
    assert note
    assert note["y"] + note["height"] <= go["y"]
