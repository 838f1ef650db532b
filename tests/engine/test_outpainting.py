import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from webui.core.request import Outpaint
from webui.engine import outpainting
from webui.engine.outpainting import Pass

EIGHTS = st.integers(0, 20).map(lambda n: 8 * n)
BLUE = (38, 84, 214)


@given(st.integers(8, 300), st.integers(8, 300), EIGHTS, EIGHTS, EIGHTS, EIGHTS)
def test_passes_make_every_new_pixel_once_and_see_only_what_is_there(width, height, left, right, top, bottom):
    outpaint = Outpaint(left=left, right=right, top=top, bottom=bottom)
    size = outpainting.canvas_size((width, height), outpaint)
    made = np.zeros(size[::-1], dtype=int)
    made[top : top + height, left : left + width] = 1
    for step in outpainting.plan_passes((width, height), outpaint, 128):
        (wl, wt, wr, wb), (nl, nt, nr, nb) = step.window, step.new
        assert wl <= nl
        assert wt <= nt
        assert nr <= wr
        assert nb <= wb
        assert max(wr - wl, wb - wt) <= 128
        assert not made[nt:nb, nl:nr].any()
        made[nt:nb, nl:nr] = 1
        assert made[wt:wb, wl:wr].all()
    assert made.all()


def test_windows_have_the_models_size_where_the_picture_is_that_large():
    steps = outpainting.plan_passes((128, 128), Outpaint(right=32), 128)
    assert steps == [Pass((32, 0, 160, 128), (128, 0, 160, 128), "right")]


def test_sides_are_made_one_after_the_other():
    steps = outpainting.plan_passes((64, 64), Outpaint(left=8, right=8, top=8, bottom=8), 128)
    assert [step.side for step in steps] == ["left", "right", "top", "bottom"]


def test_wide_additions_are_made_in_strips_of_a_quarter_of_the_models_size():
    steps = outpainting.plan_passes((128, 128), Outpaint(left=80), 128)
    assert [step.new for step in steps] == [(48, 0, 80, 128), (16, 0, 48, 128), (0, 0, 16, 128)]


def canvas(image, outpaint):
    return outpainting.place_on_canvas(image, outpaint)


SIDES = {"left": Outpaint(left=32), "right": Outpaint(right=32), "top": Outpaint(top=32), "bottom": Outpaint(bottom=32)}


@pytest.mark.parametrize("side", SIDES)
def test_a_plain_picture_is_continued_in_its_very_colour(side):
    image = Image.new("RGB", (48, 48), BLUE)
    (step,) = outpainting.plan_passes(image.size, SIDES[side], 128)
    filled = outpainting.prefill(canvas(image, SIDES[side]), step, 1)
    assert filled.getextrema() == tuple((value, value) for value in BLUE)


@pytest.mark.parametrize("side", SIDES)
def test_colours_at_the_edge_go_on_beside_it(side):
    values = np.zeros((48, 48, 3), dtype=np.uint8)
    values[:24, :] = (200, 0, 0) if side in ("left", "right") else (0, 200, 0)
    image = Image.fromarray(values if side in ("left", "right") else values.transpose(1, 0, 2))
    (step,) = outpainting.plan_passes(image.size, SIDES[side], 128)
    filled = np.asarray(outpainting.prefill(canvas(image, SIDES[side]), step, 1)).astype(int)
    left, top, right, bottom = step.new
    new = filled[top:bottom, left:right]
    new = new if side in ("left", "right") else new.transpose(1, 0, 2)
    inner = new[:, 0] if side in ("right", "bottom") else new[:, -1]  # next to the old picture
    assert inner[:20].max(axis=1).min() > 190
    assert inner[28:].max() < 10


def test_grain_has_the_spread_and_the_colour_of_the_old_pictures():
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 12, (128, 128, 1)) * np.array([1.0, 1.0, 0.2]) + np.array([90, 140, 60])
    image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
    outpaint = Outpaint(right=32)
    (step,) = outpainting.plan_passes(image.size, outpaint, 128)
    new = np.asarray(outpainting.prefill(canvas(image, outpaint), step, 1)).astype(float)[:, 128:]
    assert np.abs(new.mean(axis=(0, 1)) - [90, 140, 60]).max() < 6
    assert new[..., 0].std() == pytest.approx(12, rel=0.25)
    assert np.corrcoef(new[..., 0].ravel(), new[..., 1].ravel())[0, 1] > 0.9


def test_an_object_at_the_edge_is_not_taken_for_grain():
    image = Image.new("RGB", (128, 128), BLUE)
    image.paste((214, 40, 40), (112, 60, 128, 80))
    outpaint = Outpaint(right=32)
    (step,) = outpainting.plan_passes(image.size, outpaint, 128)
    new = np.asarray(outpainting.prefill(canvas(image, outpaint), step, 1)).astype(int)[:, 128:]
    assert np.abs(new[:10, :16] - BLUE).max() <= 1


def test_grain_follows_the_seed():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (step,) = outpainting.plan_passes(image.size, SIDES["right"], 128)
    one, again, other = (outpainting.prefill(canvas(image, SIDES["right"]), step, seed).tobytes() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_the_blend_lies_inside_the_old_picture_and_ends_at_the_blur():
    step = Pass((0, 0, 96, 64), (64, 0, 96, 64), "right")
    row = np.asarray(outpainting.blend_mask((96, 64), step, 8))[5]
    assert bool((row[64:] == 255).all())
    assert bool((np.diff(row[56:65].astype(int)) > 0).all())
    assert not row[:56].any()


def test_no_blur_blends_nothing():
    step = Pass((0, 0, 96, 64), (64, 0, 96, 64), "right")
    mask = np.asarray(outpainting.blend_mask((96, 64), step, 0))
    assert not mask[:, :64].any()


def test_the_latent_mask_takes_every_cell_with_a_new_pixel_and_of_the_blend_what_is_nearly_new():
    step = Pass((0, 0, 96, 64), (60, 0, 96, 64), "right")
    mask = outpainting.latent_mask(outpainting.blend_mask((96, 64), step, 0))
    assert mask[0, 0, 0].tolist() == [0] * 7 + [1] * 5
    step = Pass((0, 0, 96, 64), (64, 0, 96, 64), "right")
    mask = outpainting.latent_mask(outpainting.blend_mask((96, 64), step, 32))
    assert mask[0, 0, 0].tolist() == [0] * 7 + [1] * 5
    mask = outpainting.latent_mask(outpainting.blend_mask((96, 64), step, 8))
    assert mask[0, 0, 0].tolist() == [0] * 8 + [1] * 4


def test_windows_are_filled_up_to_multiples_of_eight_and_cut_back():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8))
    outpaint = Outpaint(right=16)
    (step,) = outpainting.plan_passes(image.size, outpaint, 128)
    base = canvas(image, outpaint)
    window = outpainting.cut_window(base, step.window)
    assert window.size == (80, 56)
    mask = outpainting.blend_mask(base.size, step, 0)
    window.paste(BLUE, (60, 0, 80, 56))
    made = outpainting.lay_in(base, window, step, mask)
    assert made.size == (76, 50)
    assert made.crop((0, 0, 60, 50)).tobytes() == image.tobytes()
    assert made.getpixel((75, 49)) == BLUE


@pytest.mark.parametrize(
    ("step", "along", "shares"),
    [
        (Pass((32, 0, 160, 64), (128, 0, 160, 64), "right"), (0, 0), [0.4] * 12 + [0.4, 0.6, 0.8, 1.0]),
        (Pass((0, 0, 128, 64), (0, 0, 40, 64), "left"), (0, 0), [1.0, 1.0, 0.8, 0.6, 0.4] + [0.4] * 11),
        (Pass((0, 0, 64, 60), (0, 0, 64, 20), "top"), (1, 0), [0.8, 0.6, 0.4] + [0.4] * 5),
        (Pass((0, 4, 64, 60), (0, 28, 64, 60), "bottom"), (1, 0), [0.4] * 3 + [0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_cells_beside_the_old_picture_are_let_go_late(step, along, shares):
    free_at = outpainting.free_at(step)
    cut = outpainting.cut_window(Image.new("RGB", (200, 200)), step.window)
    assert free_at.shape == (1, 1, cut.height // 8, cut.width // 8)
    rows = free_at[0, 0] if along[0] == 0 else free_at[0, 0].T
    assert bool((rows == torch.tensor(shares)).all())


SKY = np.broadcast_to(np.linspace((90, 160, 230), (170, 210, 250), 128)[:, None], (128, 160, 3))  # the rows' colours go on at every side


def joined(side, off, blur=8):
    """A sky extended by 32 pixels to `side` by a model that sees the rim, and paints what is new `off` grey levels away; the sky's own."""
    sky = np.rint(SKY).astype(np.uint8) if side in ("left", "right") else np.rint(SKY).astype(np.uint8).transpose(1, 0, 2)
    finished = Image.fromarray(sky)
    outpaint = SIDES[side]
    left, top = outpaint.left, outpaint.top
    kept = finished.crop((left, top, finished.width - outpaint.right, finished.height - outpaint.bottom))
    (step,) = outpainting.plan_passes(kept.size, outpaint, 160)
    base = canvas(kept, outpaint)
    share = np.asarray(outpainting.blend_mask(base.size, step, 0), dtype=float) / 255
    made = Image.fromarray(np.clip(np.rint(sky + off * share[:, :, None]), 0, 255).astype(np.uint8))
    made = made.filter(ImageFilter.GaussianBlur(3))  # as a decoder smears a step
    mask = outpainting.blend_mask(base.size, step, blur)
    return np.asarray(outpainting.lay_in(base, made, step, mask)).astype(int), sky.astype(int), step


@pytest.mark.parametrize("off", [-20, 20])
@pytest.mark.parametrize("side", SIDES)
def test_a_new_area_in_another_shade_comes_nearer_to_that_of_the_rim(side, off):
    made, sky, step = joined(side, off)
    left, top, right, bottom = step.new
    assert np.abs(made - sky)[top:bottom, left:right].mean() < 0.7 * abs(off)


@pytest.mark.parametrize("side", SIDES)
def test_the_border_of_another_shade_is_no_steeper_than_a_few_grey_levels(side):
    made, sky, step = joined(side, 20, blur=0)
    turned = (made - sky) if step.side in ("left", "right") else (made - sky).transpose(1, 0, 2)
    assert np.abs(np.diff(turned, axis=1)).max() <= 5


def test_a_model_that_meets_the_rims_colours_is_laid_in_as_it_is():
    made, sky, _ = joined("right", 0)
    assert np.abs(made - sky).max() <= 1


def test_a_later_piece_of_a_strip_comes_nearer_to_the_shade_of_the_earlier_one():
    plain = Image.new("RGB", (128, 96), BLUE)
    outpaint = Outpaint(right=16)
    base = canvas(plain, outpaint)
    *_, step = outpainting.plan_passes(plain.size, outpaint, 64)
    base.paste(BLUE, (128, 0, 144, step.new[1]))  # the earlier piece
    left, top, right, bottom = step.window
    made = Image.new("RGB", (right - left, bottom - top), BLUE)
    made.paste((54, 100, 230), (step.new[0] - left, step.new[1] - top, right - left, bottom - top))
    made = made.filter(ImageFilter.GaussianBlur(3))
    laid = np.asarray(outpainting.lay_in(base, made, step, outpainting.blend_mask(base.size, step, 8))).astype(int)
    assert np.abs(np.diff(laid[:, 136:], axis=0)).max() <= 2
    assert np.abs(laid - BLUE).max() <= 11


def test_another_thing_beside_the_border_does_not_tint_the_far_side():
    plain = Image.new("RGB", (128, 128), BLUE)
    outpaint = Outpaint(right=32)
    (step,) = outpainting.plan_passes(plain.size, outpaint, 160)
    base = canvas(plain, outpaint)
    made = Image.new("RGB", (160, 128), BLUE)
    made.paste((214, 40, 40), (120, 56, 144, 72))  # a red thing on the border
    laid = np.asarray(outpainting.lay_in(base, made, step, outpainting.blend_mask(base.size, step, 8))).astype(int)
    assert np.abs(laid[:24, 128:] - BLUE).max() <= 8
    assert laid[64, 136, 0] > laid[10, 136, 0] + 100


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (7, 9), (129, 67)])
def test_colours_are_matched_beside_pictures_of_any_size(size):
    image = Image.new("RGB", size, BLUE)
    outpaint = Outpaint(left=13, right=7, top=41, bottom=1)
    base = canvas(image, outpaint)
    for step in outpainting.plan_passes(size, outpaint, 64):
        window = outpainting.cut_window(base, step.window)
        made = Image.fromarray((np.asarray(window) * 0 + np.array(BLUE) - 12).astype(np.uint8))
        base = outpainting.lay_in(base, made, step, outpainting.blend_mask(base.size, step, 0))
    assert np.abs(np.asarray(base).astype(int) - BLUE).max() <= 2


@pytest.mark.parametrize("side", SIDES)
def test_grain_that_the_model_does_not_paint_is_added(side):
    grain = np.random.default_rng(0).normal(0, 8, (128, 128, 1)) + np.array([90, 140, 60])
    base = canvas(Image.fromarray(np.clip(np.rint(grain), 0, 255).astype(np.uint8)), SIDES[side])
    (step,) = outpainting.plan_passes((128, 128), SIDES[side], 160)
    made = Image.new("RGB", base.size, (90, 140, 60))
    left, top, right, bottom = step.new
    laid = np.asarray(outpainting.lay_in(base, made, step, outpainting.blend_mask(base.size, step, 8))).astype(float)
    assert laid[top:bottom, left:right].std(axis=(0, 1)) == pytest.approx([8] * 3, rel=0.25)


def test_grain_that_the_model_paints_is_not_doubled():
    grain = np.random.default_rng(0).normal(0, 8, (128, 160, 1)) + np.array([90, 140, 60])
    made = Image.fromarray(np.clip(np.rint(grain), 0, 255).astype(np.uint8))
    (step,) = outpainting.plan_passes((128, 128), SIDES["right"], 160)
    base = canvas(made.crop((0, 0, 128, 128)), SIDES["right"])
    laid = np.asarray(outpainting.lay_in(base, made, step, outpainting.blend_mask(base.size, step, 8)))
    assert np.array_equal(laid, np.asarray(made))
