"""Makes an aesthetic embedding from a folder of pictures: as a job, or by `python -m webui.training.aesthetic NAME FOLDER`.

It needs CLIP's image tower, which no checkpoint holds: config.json and model.safetensors of openai/clip-vit-large-patch14 in models/CLIP.
"""

import argparse
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from webui.core.errors import BadRequest, EaselError
from webui.core.event import Control, Event, Finished, Loading, Progress
from webui.core.training_request import TrainingRequest, folder_below
from webui.engine.aesthetic import making_aesthetic_embedding
from webui.engine.tensor_writer import save_tensors
from webui.training.folder import ENDINGS, opened, picture_files
from webui.training.jobs import old_file

ROOT = Path(__file__).resolve().parent.parent.parent


def make(name: str, pictures: Path, clip_folder: Path, target: Path) -> Path:
    """Write the embedding of a folder's pictures as `target`/`name`.safetensors. Raises EaselError with what is wrong."""
    if not name or any(char in name for char in '/\\:*?"<>|,') or name.startswith("."):
        raise BadRequest(f"{name[:80]!r} is no good name for an embedding; use letters, digits, blanks and dashes")
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in ENDINGS) if pictures.is_dir() else []
    if not files:
        raise BadRequest(f"{pictures} holds no pictures ({', '.join(ENDINGS)})")
    for event in _made(files, clip_folder, path := target / f"{name}.safetensors"):
        assert isinstance(event, Progress)
    return path


def make_file(
    request: TrainingRequest,
    control: Control,
    *,
    find: Callable[[str, str], Path],
    target: Path,
    clip_folder: Path,
    data_dir: Path,
) -> Iterator[Event]:
    """Carry out a request for an aesthetic embedding; yields what happens, Finished last. Stopped, it leaves all as it was.

    find: as of jobs.train_file; target: the folder for the new file. Raises BadRequest, MissingModel, BadModelFile, StorageError.
    """
    request.validate()
    old = old_file(request, find)
    folder = folder_below(data_dir, request.data_root)
    files = picture_files(folder, data_dir)
    yield Loading(f"reading the pictures of {folder.name}")
    events = _made(files, clip_folder, (old or target / f"{request.name}.safetensors").with_suffix(".safetensors"))
    with closing(events):
        for event in events:
            yield event
            if control.interrupted and event.step < event.steps:
                yield Finished(interrupted=True)
                return
    if old is not None and old.suffix != ".safetensors":
        old.unlink(missing_ok=True)
    yield Finished()


def _made(files: Sequence[Path], clip_folder: Path, path: Path) -> Generator[Progress]:
    """Write the embedding of the pictures to `path`, in the place of an older one; an event for each batch of pictures."""
    looking = making_aesthetic_embedding(map(opened, files), clip_folder)
    with closing(looking):
        while True:
            try:
                count = next(looking)
            except StopIteration as end:
                embedding = end.value
                break
            yield Progress(1, 1, count, len(files), f"looking at {len(files)} pictures")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, {"aesthetic_embedding": embedding}, {"pictures": str(len(files))})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="what the embedding shall be called")
    parser.add_argument("pictures", type=Path, help="the folder with the pictures; folders in it count, too")
    parser.add_argument("--data-dir", type=Path, default=ROOT, help="the root of models/")
    flags = parser.parse_args(arguments)
    models = flags.data_dir / "models"
    try:
        path = make(flags.name, flags.pictures, models / "CLIP", models / "aesthetic_embeddings")
    except EaselError as error:
        sys.exit(str(error))
    print(f"made {path}")


if __name__ == "__main__":
    main()
