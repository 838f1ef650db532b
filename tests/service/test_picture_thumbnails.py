"""webui/service/picture_thumbnails.py."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import MissingModel
from webui.service import picture_thumbnails as module
from webui.service.picture_thumbnails import PictureThumbnails


def picture(path: Path, size: tuple[int, int] = (600, 300), mode: str = "RGB", kind: str = "PNG") -> Path:
    Image.new(mode, size, "teal").save(path, kind)
    return path


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.webp"))


@pytest.mark.parametrize(
    ("size", "mode", "kind", "small"),
    [
        ((600, 300), "RGB", "PNG", (256, 128)),
        ((64, 32), "RGBA", "PNG", (64, 32)),
        ((300, 900), "L", "JPEG", (85, 256)),
        ((512, 512), "P", "PNG", (256, 256)),
    ],
)
def test_pictures_of_any_kind_become_small(tmp_path: Path, size: tuple[int, int], mode: str, kind: str, small: tuple[int, int]) -> None:
    data = PictureThumbnails(tmp_path / "cache").get(1, picture(tmp_path / "a", size, mode, kind))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("WEBP", small)


def test_a_thumbnail_is_made_once_and_again_when_the_file_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    shrunk = module._shrunk
    monkeypatch.setattr(module, "_shrunk", lambda *given: (made.append(1), shrunk(*given))[1])
    thumbnails, path = PictureThumbnails(tmp_path / "cache"), picture(tmp_path / "a.png")
    assert thumbnails.get(7, path) == thumbnails.get(7, path)
    assert len(made) == 1
    os.utime(path, (1, 1))
    thumbnails.get(7, path)
    assert (len(made), cached(tmp_path / "cache")) == (2, [f"7-{10**9:x}.webp"])


def test_a_full_disk_keeps_nobody_from_looking(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    assert PictureThumbnails(tmp_path / "cache").get(1, picture(tmp_path / "a.png"))


def test_only_the_forgotten_pictures_thumbnail_goes(tmp_path: Path) -> None:
    thumbnails = PictureThumbnails(tmp_path / "cache")
    for number in (1, 257, 11):
        thumbnails.get(number, picture(tmp_path / f"{number}.png"))
    thumbnails.forget([1, 5])
    assert [name.partition("-")[0] for name in cached(tmp_path / "cache")] == ["11", "257"]


def test_what_is_gone_or_no_picture_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = PictureThumbnails(tmp_path / "cache")
    with pytest.raises(MissingModel, match="not there any more"):
        thumbnails.get(1, tmp_path / "gone.png")
    (tmp_path / "text.png").write_bytes(b"text")
    with pytest.raises(MissingModel, match="cannot be shown"):
        thumbnails.get(1, tmp_path / "text.png")
    monkeypatch.setattr(module, "MAX_FILE", 10)
    with pytest.raises(MissingModel, match="10 are looked at"):
        thumbnails.get(1, picture(tmp_path / "large.png"))
