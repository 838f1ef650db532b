"""What the fields hold is kept as it is typed, without a Gradio event for each change of each field."""

from tests.browser.conftest import Person

KEPT = "([name, value]) => easel.drafts().txt2img?.[name] === value"


def test_what_is_typed_pressed_and_read_out_of_parameters_is_kept(person: Person) -> None:
    page = person.page
    person.write("txt2img_steps", 7)
    page.wait_for_function(KEPT, arg=["steps", 7])
    person.write("txt2img_width", 192)
    page.wait_for_function(KEPT, arg=["width", 192])
    page.click("#txt2img_res_switch")
    page.wait_for_function(KEPT, arg=["height", 192])
    person.write("txt2img_prompt", "a fox\nSteps: 9, Sampler: Euler, Seed: 5, Size: 64x64")
    page.click("#txt2img_paste")
    page.wait_for_function(KEPT, arg=["seed", "5"])
    page.locator("#txt2img_prompt textarea").press_sequentially(" at once")
    page.reload()  # before anything could be looked at later
    person.ready(page)
    person.wait_for_value("txt2img_prompt", "a fox at once")
    person.wait_for_value("txt2img_steps", 9)


def test_a_window_where_nothing_is_changed_leaves_the_other_ones_drafts_alone(person: Person) -> None:
    other = person.visit()
    other.wait_for_function("easel.keptDrafts.txt2img")  # it has seen what its fields began with
    person.page.bring_to_front()
    person.write("txt2img_prompt", "a red circle")
    person.page.wait_for_function(KEPT, arg=["prompt", "a red circle"])
    other.bring_to_front()
    other.evaluate("() => { window.looks = 0; const keep = easel.keep; easel.keep = (...all) => { keep(...all); window.looks += 1; }; }")
    other.click("#txt2img_prompt textarea")
    other.wait_for_function("looks > 0")
    assert other.evaluate("easel.drafts().txt2img.prompt") == "a red circle"


def test_what_gradio_does_for_all_components_together_stays_small(person: Person) -> None:
    """It searches its whole tree for each target of an event and each field that could show progress: the page came a second later."""
    told = person.page.evaluate(
        "gradio_config.dependencies.map((each) => [each.targets.length, (each.show_progress_on ?? each.outputs).length])"
    )
    assert sum(targets for targets, _ in told) < 140
    assert max(shown for _, shown in told) < 16


def test_the_forms_of_the_models_tab_are_kept(person: Person) -> None:
    page = person.page
    person.open("merger")
    person.choose("modelmerger_primary_model_name", "easel-miniature")
    person.write("modelmerger_custom_name", "half and half")
    person.write("modelmerger_interp_amount", 0.65)
    page.click("#modelsave_precision label:has-text('bf16')")
    page.wait_for_function("easel.drafts().save?.precision === 'bf16' && easel.drafts().merge.multiplier === 0.65")
    page.reload()
    person.ready(page)
    person.wait_for_value("modelmerger_custom_name", "half and half")
    person.wait_for_value("modelmerger_interp_amount", 0.65)
    assert person.value("modelmerger_primary_model_name").startswith("easel-miniature")
    assert page.is_checked("#modelsave_precision label:has-text('bf16') input")


def test_what_is_typed_into_the_studies_of_the_x_ray_tab_is_kept(person: Person) -> None:
    page = person.page
    person.open("xray")
    page.click("#xray_open_interpolation")
    page.locator("#xray_between_prompt").press_sequentially("a blue star")
    page.select_option("#xray_between_way", "lerp")
    page.click("#xray_open_noising")
    page.fill("#xray_noise_levels", "10 20")
    page.reload()
    person.ready(page)
    kept = {"xray_between_prompt": "a blue star", "xray_between_way": "lerp", "xray_noise_levels": "10 20", "xray_between_seed": ""}
    assert {name: page.locator(f"#{name}").input_value() for name in kept} == kept
