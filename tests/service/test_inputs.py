"""webui/service/inputs.py."""

import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from webui.core.errors import BadRequest, MissingModel, StorageError
from webui.service import files
from webui.service.inputs import InputStore


def png(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_bytes_are_kept_as_given_under_their_hash(tmp_path: Path) -> None:
    store = InputStore(tmp_path / "inputs")
    sha256 = store.add(png())
    assert sha256 == hashlib.sha256(png()).hexdigest()
    assert store.path(sha256).read_bytes() == png()
    assert store.open(sha256).size == (8, 8)
    assert store.add(png()) == sha256
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [sha256]


def test_an_acknowledged_input_is_on_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1])
    path = InputStore(tmp_path / "inputs").path(InputStore(tmp_path / "inputs").add(png()))
    assert synced[0:2] == [str(tmp_path), str(tmp_path / "inputs")]
    assert synced[3] == str(path.parent)
    assert len(synced) == 4


@pytest.mark.parametrize("data", [b"", b"no picture", png()[:40]])
def test_what_is_no_picture_is_refused_and_not_kept(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadRequest):
        InputStore(tmp_path).add(data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["0" * 64, "", "../easel.sqlite3", "A" * 64, "0" * 63 + "\n", "/etc/passwd"])
def test_only_hashes_of_kept_pictures_lead_to_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingModel):
        InputStore(tmp_path).path(name)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text("in the way")
    with pytest.raises(StorageError, match="free disk space"):
        InputStore(tmp_path / "inputs").add(png())
