"""Files written piece by piece are the files that safetensors itself writes, and appear whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from webui.core.errors import BadRequest, StorageError
from webui.core.safetensors_header import open_model_file, read_header
from webui.engine.tensor_writer import Outgoing, new_place, write_tensors

TENSORS = {
    "half": torch.arange(6.0).reshape(2, 3).half(),
    "a.long": torch.arange(77)[None],
    "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "bf": torch.arange(5.0).bfloat16(),
    "marker": torch.zeros(0),
    "number": torch.tensor(3.0),
    'odd "name" ü': torch.ones(1),
}


def whole(tensor: Tensor) -> Outgoing:
    return Outgoing(tensor.dtype, tuple(tensor.shape), lambda: [tensor])


def write(path: Path, tensors: dict[str, Outgoing], **metadata: str) -> list[float]:
    return list(write_tensors(path, tensors, metadata))


def test_the_bytes_are_those_of_safetensors_own_writer(tmp_path: Path) -> None:
    write(tmp_path / "a", {name: whole(tensor) for name, tensor in TENSORS.items()})
    save_file(TENSORS, tmp_path / "b", metadata={"format": "pt"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_metadata_of_strangers_are_written_whatever_they_hold(tmp_path: Path) -> None:
    write(tmp_path / "a", {"x": whole(torch.ones(1))}, title="half a \ud800 pair", other="\x00\n\u2028")
    with open_model_file(tmp_path / "a") as file:
        assert read_header(file, "a").metadata == {"format": "pt", "title": "half a ? pair", "other": "\x00\n\u2028"}


def test_pieces_are_rows_and_are_cast_and_progress_counts_bytes(tmp_path: Path) -> None:
    rows = torch.arange(12.0).reshape(4, 3)
    joined = Outgoing(torch.bfloat16, (4, 3), lambda: [rows[:1], rows[1:].double()])
    assert write(tmp_path / "a", {"joined": joined, "turned": Outgoing(torch.float32, (3, 4), lambda: [rows.T])}) == [2 / 3, 1.0]
    found = load_file(tmp_path / "a")
    assert torch.equal(found["joined"], rows.bfloat16())
    assert torch.equal(found["turned"], rows.T)


def test_pieces_are_made_only_when_the_ones_before_are_written(tmp_path: Path) -> None:
    made = []

    def pieces() -> Iterator[Tensor]:
        for i in range(3):
            made.append(i)
            yield torch.ones(1)

    with closing(write_tensors(tmp_path / "a", {"x": Outgoing(torch.float32, (3,), pieces), "y": whole(torch.ones(1))}, {})) as steps:
        next(steps)
        assert made == [0, 1, 2]
    with pytest.raises(ValueError, match="12 bytes for a tensor of 16"):
        write(tmp_path / "b", {"x": Outgoing(torch.float32, (4,), pieces)})


def save_as(path: Path, before_the_end: Callable[[Path], object], **how: bool) -> None:
    """A new file, during the making of which something happens."""
    with new_place(path, **how) as part:
        part.write_text("new")
        before_the_end(part)


def test_a_name_that_is_taken_is_refused_before_and_after_the_work(tmp_path: Path) -> None:
    path, done = tmp_path / "x.safetensors", []
    path.write_text("old")
    with pytest.raises(BadRequest, match=r"x\.safetensors exists already in .*/; choose another name"):
        save_as(path, done.append)
    assert done == []
    path.unlink()
    with pytest.raises(BadRequest, match="exists already"):
        save_as(path, lambda part: path.write_text("somebody was faster"))
    assert path.read_text() == "somebody was faster"
    save_as(path, done.append, replace=True)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_or_folder_that_was_not_finished(tmp_path: Path) -> None:
    def interrupt(part: Path) -> None:
        part.unlink()
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "file").write_text("half")
        raise KeyboardInterrupt

    def fill_the_disk(part: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        save_as(tmp_path / "x", interrupt)
    with pytest.raises(StorageError, match="could not be written: No space left on device; free some space"):
        save_as(tmp_path / "y", fill_the_disk)
    assert list(tmp_path.iterdir()) == []
