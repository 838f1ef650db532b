import numpy as np
import pytest
from PIL import Image

from webui.core.errors import BadRequest
from webui.core.request import Inpaint
from webui.engine import masking

RANDOM = np.random.default_rng(0)
PHOTO = Image.fromarray(RANDOM.integers(0, 255, (48, 64, 3), dtype=np.uint8))


def square(size=(64, 48), box=(20, 16, 36, 32)):
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def halves(width=40, height=20):
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


@pytest.mark.parametrize("mode", ["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"])
def test_the_same_size_leaves_every_pixel(mode):
    assert masking.resize(PHOTO, PHOTO.size, mode).tobytes() == PHOTO.tobytes()


def test_crop_and_resize_keeps_the_middle_in_proportion():
    picture = np.asarray(masking.resize(halves(), (20, 20), "Crop and resize"))
    assert picture.shape == (20, 20, 3)
    assert picture[10, 2].tolist() == [255, 0, 0]
    assert picture[10, 17].tolist() == [0, 0, 255]


def test_a_hair_thin_picture_is_refused_rather_than_scaled_to_what_no_memory_holds():
    with pytest.raises(BadRequest, match="1x65000 is too thin to be cropped to 512x64"):
        masking.resize(Image.new("RGB", (1, 65000)), (512, 64), "Crop and resize")


def test_resize_and_fill_continues_the_outermost_rows():
    picture = np.asarray(masking.resize(PHOTO, (64, 96), "Resize and fill"))
    assert np.array_equal(picture[24:72], np.asarray(PHOTO))
    first, second, *_, last_but_one, last = np.asarray(PHOTO).astype(float)
    above, below = ((9 * edge - inner) / 8 for edge, inner in ((first, second), (last, last_but_one)))  # a bicubic filter's weights there
    assert np.abs(picture[:24] - np.clip(above, 0, 255)).max() < 1
    assert np.abs(picture[72:] - np.clip(below, 0, 255)).max() < 1


@pytest.mark.parametrize(("size", "scaled"), [((40, 64), (40, 30)), ((128, 48), (64, 48)), ((72, 24), (32, 24)), ((64, 64), (64, 48))])
def test_resize_and_fill_leaves_nothing_bare(size, scaled):
    bright = Image.new("RGB", PHOTO.size, (9, 99, 199))
    assert masking.resize_and_fill(bright, size).getcolors() == [(size[0] * size[1], (9, 99, 199))]
    middle = masking.resize_and_fill(PHOTO, size).crop(
        (size[0] // 2 - scaled[0] // 2, size[1] // 2 - scaled[1] // 2, size[0] // 2 + scaled[0] // 2, size[1] // 2 + scaled[1] // 2)
    )
    assert middle.tobytes() == PHOTO.resize(scaled, masking.LANCZOS).tobytes()


def test_transparent_pictures_are_laid_on_white():
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    assert masking.flatten(picture).getpixel((1, 1)) == (255, 255, 255)
    assert masking.flatten(picture).getpixel((0, 0)) == (255, 0, 0)


def test_masks_count_by_brightness_with_their_greys_or_by_opacity_without():
    grey = Image.new("RGB", (4, 4), (99, 99, 99))
    assert masking.painted_area(grey).getextrema() == (99, 99)
    drawn = Image.new("RGBA", (4, 4), (255, 255, 255, 100))
    drawn.putpixel((2, 1), (0, 0, 0, 140))
    assert masking.painted_area(drawn).getbbox() == (2, 1, 3, 2)
    assert masking.painted_area(drawn).getpixel((2, 1)) == 255
    assert masking.painted_area(drawn, greys=True).getpixel((2, 1)) == 140


@pytest.mark.parametrize("only_masked", [False, True])
def test_masks_of_another_size_are_fitted_to_the_picture(only_masked):
    inpaint = Inpaint(mask="", blur_x=0, blur_y=0, only_masked=only_masked)
    region = masking.prepare_inpaint(PHOTO, square((32, 24), (10, 8, 18, 16)), inpaint, "Just resize", PHOTO.size)
    assert region.overlay.point(lambda value: 255 if value > 128 else 0).getbbox() == (20, 16, 36, 32)


def test_blur_reaches_two_and_a_half_deviations_by_axis():
    assert masking.blur(square(), 4, 0).getbbox() == (20 - 10, 16, 36 + 10, 32)
    assert masking.blur(square(), 0, 2).getbbox() == (20, 16 - 5, 36, 32 + 5)


THEIRS = {  # cv2.GaussianBlur (OpenCV 5.0) of 41 pixels of which 12 to 19 are 255 and number 30 is 200, by sigma
    1: "0 0 0 0 0 0 0 0 0 1 15 77 178 240 254 255 255 254 240 178 77 15 1 0 0 0 0 1 11 48 80 48 11 1 0 0 0 0 0 0 0",
    3: "0 0 0 0 1 3 8 16 30 51 79 111 143 173 196 209 209 196 173 143 111 79 52 31 20 14 14 17 22 25 27 25 22 16 11 6 4 2 1 0 0",
    4: "0 0 1 3 7 12 21 32 48 67 89 112 133 153 167 175 175 167 153 133 112 90 70 52 39 30 24 22 21 21 20 20 18 15 13 9 7 4 3 2 2",
    7: "24 24 26 31 36 41 50 58 67 76 85 93 99 106 109 112 112 110 109 102 97 90 82 73 66 57 50 44 38 32 27 24 20 16 15 12 11 9 9 9 8",
}


@pytest.mark.parametrize("sigma", list(THEIRS))
def test_blur_is_opencvs_to_the_last_level_along_both_axes(sigma):
    line = np.zeros((1, 41), dtype=np.uint8)
    line[0, 12:20], line[0, 30] = 255, 200
    assert np.asarray(masking.blur(Image.fromarray(line), sigma, 0))[0].tolist() == [*map(int, THEIRS[sigma].split())]
    assert np.asarray(masking.blur(Image.fromarray(line.T.copy()), 0, sigma))[:, 0].tolist() == [*map(int, THEIRS[sigma].split())]


def test_blur_mirrors_at_the_edges():
    full = Image.new("L", (30, 20), 255)
    assert masking.blur(full, 9, 9).getextrema() == (255, 255)


def test_fill_continues_the_surroundings_and_leaves_the_rest():
    image = Image.new("RGB", (64, 48), (30, 90, 200))
    image.paste((255, 0, 0), (20, 16, 36, 32))
    filled = np.asarray(masking.fill(image, square())).astype(int)
    assert np.abs(filled - [30, 90, 200]).max() <= 6


def test_only_masked_crops_with_padding_to_the_pictures_proportions():
    left, top, right, bottom = masking.crop_box(square((200, 100), (90, 40, 100, 50)), 5, (64, 32))
    assert (right - left, bottom - top) == (40, 20)
    assert (left, top) == (75, 35)


def test_crops_at_the_edge_are_pushed_back_into_the_picture():
    left, top, right, bottom = masking.crop_box(square((200, 100), (0, 90, 10, 100)), 5, (64, 32))
    assert (left, bottom) == (0, 100)
    assert (right - left, bottom - top) == (30, 15)


def test_crops_at_the_far_edge_are_pushed_back_whole():
    assert masking.crop_box(square((200, 100), (190, 40, 200, 60)), 0, (64, 32)) == (160, 40, 200, 60)


def test_crops_are_rounded_as_the_fields_whose_proportions_are_a_float():
    assert 42 * 1088 / 384 == 119
    left, top, right, bottom = masking.crop_box(square((400, 400), (100, 150, 142, 200)), 0, (384, 1088))
    assert (left, right, bottom - top) == (100, 142, int(42 / (384 / 1088)))
    assert bottom - top == 118


def test_the_latent_mask_is_one_where_most_of_a_cell_is_masked():
    mask = masking.latent_mask(square((64, 64), (16, 16, 40, 32)))
    assert mask.shape == (1, 1, 8, 8)
    assert mask[0, 0].nonzero().tolist() == [[row, column] for row in (2, 3) for column in (2, 3, 4)]


def test_a_latent_mask_counts_by_its_red_and_says_what_is_filled():
    latents = Image.new("RGB", (8, 6))
    latents.paste((255, 0, 0), (4, 0, 8, 6))
    latents.paste((0, 255, 255), (0, 0, 4, 3))
    region = masking.prepare_inpaint(PHOTO, square(), Inpaint(mask="", content="fill"), "Just resize", PHOTO.size, latents)
    assert masking.latent_mask(region.remade)[0, 0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 6
    filled = np.asarray(region.image)
    assert np.array_equal(filled[:, :20], np.asarray(PHOTO)[:, :20])
    assert not np.array_equal(filled[:, 48:], np.asarray(PHOTO)[:, 48:])
    assert region.mask.getbbox() != region.remade.getbbox()


def test_the_overlay_is_twice_the_blurred_mask_on_the_whole_picture_and_the_mask_itself_on_a_part():
    blurred = np.asarray(masking.blur(square(), 4, 0)).astype(int)
    assert 100 < blurred[20, 20] < 160  # the mask's edge
    whole, part = (
        masking.prepare_inpaint(PHOTO, square(), Inpaint(mask="", blur_x=4, blur_y=0, only_masked=only), "Just resize", PHOTO.size)
        for only in (False, True)
    )
    assert np.array_equal(np.asarray(whole.overlay), np.minimum(2 * blurred, 255))
    assert np.array_equal(np.asarray(part.overlay), blurred)


@pytest.mark.parametrize("only_masked", [False, True])
def test_pasting_back_touches_nothing_outside_the_blurred_mask(only_masked):
    inpaint = Inpaint(mask="", blur_x=2, blur_y=2, only_masked=only_masked, padding=4)
    region = masking.prepare_inpaint(PHOTO, square(), inpaint, "Just resize", PHOTO.size)
    result = np.asarray(region.paste_back(Image.new("RGB", PHOTO.size, (0, 255, 0))))
    changed = np.abs(result.astype(int) - np.asarray(PHOTO)).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 16 - 5
    assert rows.max() < 32 + 5
    assert columns.min() >= 20 - 5
    assert columns.max() < 36 + 5
    assert result[24, 28].tolist() == [0, 255, 0]


def test_pasting_back_lays_the_old_picture_with_its_transparency_over_the_new_as_pillow_composes():
    region = masking.prepare_inpaint(PHOTO, square(), Inpaint(mask="", blur_x=4, blur_y=4), "Just resize", PHOTO.size)
    made = Image.new("RGB", PHOTO.size, (7, 200, 90))
    shown = np.asarray(region.overlay, dtype=float)[..., None] / 255
    exact = shown * np.asarray(made) + (1 - shown) * np.asarray(PHOTO)
    assert np.abs(np.asarray(region.paste_back(made)) - exact).max() <= 2  # old colours are rounded twice where little of them is left


def test_an_inverted_mask_repaints_the_rest():
    inpaint = Inpaint(mask="", blur_x=0, blur_y=0, invert=True)
    region = masking.prepare_inpaint(PHOTO, square(), inpaint, "Just resize", PHOTO.size)
    result = region.paste_back(Image.new("RGB", PHOTO.size))
    assert result.crop((20, 16, 36, 32)).tobytes() == PHOTO.crop((20, 16, 36, 32)).tobytes()
    assert result.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("invert", [False, True])
def test_a_mask_that_leaves_nothing_to_do_is_refused(invert):
    mask = Image.new("L", PHOTO.size, 255 if invert else 0)
    with pytest.raises(BadRequest, match="mask is empty"):
        masking.prepare_inpaint(PHOTO, mask, Inpaint(mask="", invert=invert), "Just resize", PHOTO.size)
