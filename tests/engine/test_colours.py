"""Colour correction, against the colours that CIE and W3C publish, and by what must stay."""

import numpy as np
import pytest
from PIL import Image

from webui.engine.colours import LUMA, lab, rgb, with_colours_of
from webui.training.world import Scene, Thing, draw


def pixels(image):
    return np.asarray(image, dtype=float)


PICTURE = draw(Scene(things=(Thing(object="circle", colour="red", size="large", place="centre"),), background="blue"))
OTHER = draw(Scene(things=(Thing(object="star", colour="green", size="large", place="left"),), background="yellow"))


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((255, 255, 255), (255, 128, 128)),
        ((0, 0, 0), (0, 128, 128)),
        ((255, 0, 0), (136, 208, 195)),
        ((0, 255, 0), (224, 42, 211)),
        ((0, 0, 255), (82, 207, 20)),
        ((119, 119, 119), (128, 128, 128)),
        ((200, 30, 90), (113, 194, 139)),
        ((12, 14, 13), (10, 126, 129)),
    ],
)
def test_lab_of_known_colours_is_opencvs_of_8_bits(colour, expected):
    assert lab(np.array([[colour]], dtype=np.uint8))[0, 0].tolist() == list(expected)


def test_lab_and_back_is_the_same_colour_but_for_8_bits():
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.abs(rgb(lab(colours)) - colours).mean() < 1


def waves(*turns):
    """A picture of one wave for each channel."""
    y, x = np.mgrid[:16, :16]
    return Image.fromarray(np.stack([127.5 + 127.5 * np.sin(a * x + b * y + a) for a, b in turns], axis=-1).astype(np.uint8))


def test_a_corrected_picture_is_that_of_opencv_scikit_image_and_blendmodes():
    made = with_colours_of(waves((0.3, 0.1), (0.2, 0.5), (0.7, 0.2)), waves((0.1, 0.2), (0.05, 0.3), (0.9, 0.1)))
    expected = np.frombuffer(bytes.fromhex(THEIRS), np.uint8).reshape(16, 16, 3).astype(int)
    apart = np.abs(pixels(made) - expected).max(axis=-1)
    assert apart.max() <= 2
    assert (apart <= 1).mean() >= 0.99


def test_a_picture_with_its_own_colours_stays_but_for_8_bits_of_lab():
    assert np.abs(pixels(with_colours_of(PICTURE, PICTURE)) - pixels(PICTURE)).max() <= 4


def test_luminosity_stays_and_hues_come_from_the_other_picture():
    made = with_colours_of(PICTURE, OTHER)
    assert np.abs(pixels(made) @ LUMA - pixels(PICTURE) @ LUMA).max() <= 1
    tints = [lab(np.asarray(image)).mean(axis=(0, 1))[1:] for image in (made, PICTURE, OTHER)]
    distances = [np.abs(tint - tints[2]).sum() for tint in tints[:2]]
    assert distances[0] < distances[1] / 2


def test_sizes_need_not_be_the_same():
    assert with_colours_of(PICTURE, OTHER.resize((50, 70))).size == PICTURE.size
    assert with_colours_of(Image.new("RGB", (8, 8)), PICTURE).size == (8, 8)


# cv2.cvtColor (OpenCV 5.0), skimage.exposure.match_histograms (0.26) and blendmodes' LUMINOSITY of the two waves, RGB
THEIRS = (
    "b08fe1cbb2eceec1eef4d5c8fee953fef126faf11df6ee27e9e087c8d7d5a3cfe286b9d97c99996c7e435a640e4a500ad1c1e5eed8eef8e7f1fff3a8fff856ff"
    "f51df8eb1beedd3dd1c9a4a7bae27aabe45e8cde566a87434d3f353607282614e5e2edf7eff7fcf4e6fff590fff031f4df1eefcc1ae0b064bb9ab9808feb4f79"
    "fa305cd5243d8625212519100e1d0514eeebf2f9ecf9fae6cdfbde6af9ca25edb113e69429c17a87876ae42d71ff1652ff0a32c70219731600150300020c001f"
    "efdaeff1cff1f2c0b8f0ae55ed970ce87800c95c459b4c9b434ef41f3fff0a27ec00169800073d0300020b0006120851ddb6edea9fe2e48c9de7743bdd5d00c9"
    "460fa6335a7927b94e1ef31d1dff0218d20010790e014118070e1d18172f2b59c38be9e166cee45275e93b1bd52b00bb1c26901a606913c53b17ff0e21fd0022"
    "bd011e86211e1f312b01403f20545a60d248e5e133afe7244fe51604c31400b00e318d0f8b581de32133ff1238f50f3dbc36394b424613525804646f29718d81"
    "bd2dd5d91b80e01032ce1400c413069e1f4b7230a53a4aff1f5eff1764f6405e925a65316a72007d83008e9a2f8fb495c01dc1da166de01820db1e00ba321ca8"
    "3e667b57c75d6dff517eee5282d96b856f848d0a8e94009ca400a4b73fa0c9afd025b0e62765e63910ca5200c75b33b46d818f84e36fa2e469aadd82a4a191a4"
    "449da600a1a900acb500a8bf60a2cabfe644a3e45a4ce87000e67e00da8a47baa19da0b5dd8cc5df8dc0cf9db97fa9b50ea3ad00a4ab00a6b10a99b37e92b3d7"
    "e37d99ed9439eda509e8b40fdebd52c1c9b0afd2dba3d2d798c8c09fb86aa3ae00979f009399008497468193997490e4f1b586f8c728f2d40cebda1ce3db67c2"
    "dbc7afdadf9ad2d590bcae90a5558c92007c81006e791060716a4e6cd82c79fffce456fbeb1df5ea17f0e825dcdd83bbd6d09bcedc85b7d1799c986d8242606a"
    "0c5459064a4e323a47981d4eee4e39fffff74ffbf21ef2e81ee8db36c7ca9a9ebcdd79abde5692d7566e854a52343b3c0c332f1132224c0d2fb7182ff35c18ff"
)
