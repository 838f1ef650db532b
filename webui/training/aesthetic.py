"""Makes an aesthetic embedding from a folder of pictures: `python -m webui.training.aesthetic NAME FOLDER`.

It needs CLIP's image tower, which no checkpoint holds: config.json and model.safetensors of openai/clip-vit-large-patch14 in models/CLIP.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from webui.core.errors import BadRequest, EaselError
from webui.core.image_metadata import open_image
from webui.engine.aesthetic import make_aesthetic_embedding
from webui.engine.tensor_writer import save_tensors

ROOT = Path(__file__).resolve().parent.parent.parent
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def make(name: str, pictures: Path, clip_folder: Path, target: Path) -> Path:
    """Write the embedding of a folder's pictures as `target`/`name`.safetensors. Raises EaselError with what is wrong."""
    if not name or any(char in name for char in '/\\:*?"<>|,') or name.startswith("."):
        raise BadRequest(f"{name[:80]!r} is no good name for an embedding; use letters, digits, blanks and dashes")
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in ENDINGS) if pictures.is_dir() else []
    if not files:
        raise BadRequest(f"{pictures} holds no pictures ({', '.join(ENDINGS)})")
    embedding = make_aesthetic_embedding(_opened(files), clip_folder)
    path = target / f"{name}.safetensors"
    target.mkdir(parents=True, exist_ok=True)
    save_tensors(path, {"aesthetic_embedding": embedding}, {"pictures": str(len(files))})
    return path


def _opened(files: list[Path]) -> Iterator[Image.Image]:
    for file in files:
        try:
            yield open_image(file.read_bytes())
        except BadRequest as error:
            raise BadRequest(f"{file}: {error}") from None


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
