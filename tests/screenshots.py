"""The pictures of docs/screenshots, taken of the real page: `make screenshots`. To be looked at before they are committed."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS, ROOT, Person, free_port, serving

FOLDER = ROOT / "docs" / "screenshots"
PROMPTS = ("a large yellow star on the left, night sky", "a red house on grass, day sky", "pixel art of a blue heart, sunset")
DEVICES = {"": {"width": 1400, "height": 900}, "-phone": {"width": 390, "height": 844}}
KINDS = {  # name of the sheet -> how the browser is
    f"{locale[:2]}-{look}{device}": {"locale": locale, "color_scheme": look, "viewport": viewport}
    for locale in ("en-US", "zh-CN")
    for look in ("light", "dark")
    for device, viewport in DEVICES.items()
}
COLUMNS = {1400: 2, 390: 5}  # of a sheet, by the width of the page
SCALE = {1400: 0.5, 390: 0.62}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    path = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        port = free_port()
        with serving(Path(folder), port):
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            address = f"http://127.0.0.1:{port}/"
            state = walk(browser, address)
            for name, options in KINDS.items():
                sheet(browser, address, name, options, state)
            browser.close()


def walk(browser: Browser, address: str) -> str:
    """Six pictures from the first visit to an outpainted picture; returns the id of this browser, so that others see the same jobs."""
    context = browser.new_context(**KINDS["en-light"])
    person = Person(context, address)
    page = person.page
    steps = [shot(page)]
    person.write("txt2img_prompt", PROMPTS[1])
    person.write("txt2img_steps", 60)
    page.fill("#txt2img_prompt textarea", PROMPTS[1])
    person.generate("txt2img")
    page.wait_for_selector("#txt2img_results .preview:not([hidden])")
    steps.append(shot(page))
    person.wait_for_end("txt2img")
    steps.append(shot(page))
    page.click("#txt2img_send_to_outpaint")
    page.wait_for_function("Boolean(easel.canvases.outpaint.hash)")
    page.click("#outpaint_left_more")
    page.click("#outpaint_right_more")
    page.wait_for_timeout(500)
    steps.append(shot(page))
    person.generate("outpaint")
    page.wait_for_selector("#outpaint_results .preview:not([hidden])")
    steps.append(shot(page))
    person.wait_for_end("outpaint")
    steps.append(shot(page))
    for number, image in enumerate(steps, 1):
        save(image.resize((700, 450), Image.Resampling.LANCZOS), f"walk-{number}")
    fill(person)
    client = str(page.evaluate("easel.client"))
    context.close()
    return client


def fill(person: Person) -> None:
    """Something to see on every tab."""
    page = person.page
    person.open("txt2img")
    person.write("txt2img_steps", 20)
    for prompt in PROMPTS:
        person.write("txt2img_prompt", prompt)
        person.make_picture("txt2img")
    page.click("#txt2img_send_to_img2img")
    page.wait_for_function("Boolean(easel.canvases.img2img.hash)")
    person.make_picture("img2img")
    person.open("txt2img")
    page.click("#txt2img_send_to_extras")
    page.wait_for_timeout(1500)
    page.click("#extras_generate")
    page.wait_for_timeout(500)
    person.wait_for_end("extras")
    person.open("txt2img")
    page.click("#txt2img_xray")
    page.wait_for_selector("#xray_recording .xray-body[data-drawn]", timeout=90_000)
    page.wait_for_timeout(2000)


def sheet(browser: Browser, address: str, name: str, options: dict, client: str) -> None:
    """Every tab of one kind of browser on one sheet."""
    context = browser.new_context(**options)
    context.add_init_script(f"localStorage.setItem('easel_client', JSON.stringify('{client}'))")
    person = Person(context, address)
    page = person.page
    shots = []
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        page.evaluate("tab => easel.openTab(tab)", tab)
        page.wait_for_timeout(1500)
        shots.append(shot(page))
    width = options["viewport"]["width"]
    size = tuple(int(side * SCALE[width]) for side in shots[0].size)
    columns = COLUMNS[width]
    rows = -(-len(shots) // columns)
    whole = Image.new("RGB", (columns * (size[0] + 8) - 8, rows * (size[1] + 8) - 8), "#888")
    for number, image in enumerate(shots):
        whole.paste(image.resize(size, Image.Resampling.LANCZOS), (number % columns * (size[0] + 8), number // columns * (size[1] + 8)))
    save(whole, name)
    if person.complaints:
        sys.stderr.write(f"{name}: {person.complaints}\n")
    context.close()


def shot(page: object) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")  # type: ignore[attr-defined]


def save(image: Image.Image, name: str) -> None:
    image.save(FOLDER / f"{name}.webp", quality=60, method=6)


if __name__ == "__main__":
    main()
