"""hires fix in the page: a second pass from its fields, and over a picture that is finished."""

from tests.browser.conftest import Person, opened


def test_hires_fix_makes_the_picture_larger_and_its_parameters_come_back(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_steps", 4)
    page.click("#txt2img_hr > button")
    page.check("#txt2img_enable_hr input")
    person.write("txt2img_hr_scale", 1.5)
    person.write("txt2img_hires_steps", 2)
    assert person.make_picture("txt2img").size == (192, 192)
    infotext = page.locator("#txt2img_infotext").inner_text()
    assert "Denoising strength: 0.7" in infotext
    assert "Hires upscale: 1.5, Hires steps: 2, Hires upscaler: Latent" in infotext

    page.uncheck("#txt2img_enable_hr input")
    person.write("txt2img_hires_steps", 5)
    assert person.make_picture("txt2img").size == (128, 128)
    page.locator("#txt2img_gallery .thumb").nth(1).click()
    page.click("#txt2img_paste")
    person.wait_for_value("txt2img_prompt", "a red circle on a blue background")


def test_a_finished_picture_is_made_larger(person: Person) -> None:
    page = person.page
    person.write("txt2img_prompt", "a red circle on a blue background")
    person.write("txt2img_steps", 3)
    person.make_picture("txt2img")
    page.click("#txt2img_hr > button")
    person.write("txt2img_hires_steps", 2)
    jobs = page.evaluate("easel.results.txt2img.jobs.size")
    page.click("#txt2img_upscale")
    page.wait_for_function("jobs => easel.results.txt2img.jobs.size > jobs", arg=jobs)
    person.wait_for_end("txt2img")
    assert person.status("txt2img") == "done"
    assert opened(person.picture_file("txt2img")).size == (256, 256)
