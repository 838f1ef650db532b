"""Files that are there whole or not at all, whatever is killed or loses power in between."""

import os
import secrets
from contextlib import suppress
from datetime import date
from pathlib import Path

PART = ".easel-part"  # ending of files that are still being written; their names begin with a dot


def write_whole(path: Path, data: bytes) -> None:
    """Write so that the name shows nothing or all of `data`. The name itself lasts once `sync_folder` was called. Raises OSError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that they last. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last. Windows has no way to ask for it. Raises OSError."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path) -> None:
    """Remove what a kill left half written. Raises OSError."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


def backup_name(path: Path) -> Path:
    """`<name>.bak-<date>` beside a file that is damaged, with a number where that name is taken."""
    kept = path.with_name(f"{path.name}.bak-{date.today().isoformat()}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.bak-{date.today().isoformat()}-{number}")
    return kept
