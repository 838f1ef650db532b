"""Torch files as safetensors: converted once, by a process that may do nothing else, and kept as long as there is room.

The folder that keeps them is named by the environment variable EASEL_CONVERTED, which the worker sets; without it nothing is kept.
"""

import hashlib
import io
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from webui.core.errors import BadModelFile, EaselError, MissingModel, StorageError
from webui.core.safetensors_header import open_model_file, read_header
from webui.engine.unpickle import BYTES_A_SECOND, DISK_FULL, MARK, REFUSED, SECONDS

FOLDER = "EASEL_CONVERTED"
VERSION = b"1"  # to be counted up when unpickle.py writes something else
MOST_KEPT = 20_000_000_000  # bytes of converted files; those that were used least lately go first
SAMPLE = 65536  # bytes at each end of a file that tell it from another, beside its time, size and place
ABANDONED = 24 * 3600  # seconds after which a file that is still being written was left behind by a kill
SLOWNESS = 10  # how much longer than its processor time a conversion may take
ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger(__name__)


@contextmanager
def converted(file: io.FileIO, name: str) -> Iterator[io.FileIO]:
    """An open safetensors file with what the torch file `file` holds. Raises BadModelFile, StorageError."""
    kept = _place(file)
    if kept is None:
        with tempfile.TemporaryFile(buffering=0) as target:
            _convert(file, name, target)
            yield io.FileIO(target.fileno(), "rb", closefd=False)
        return
    if not _is_whole(kept):
        _keep(file, name, kept)
    with open_model_file(kept) as found:
        with suppress(OSError):
            os.utime(kept)  # used now
        yield found


def _place(file: io.FileIO) -> Path | None:
    """Where the conversion of `file` is kept: a name made of what tells this file from every other."""
    folder = os.environ.get(FOLDER, "")
    if not folder:
        return None
    status = os.fstat(file.fileno())
    facts = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    digest = hashlib.sha256(VERSION + repr(facts).encode())
    for start in (0, max(status.st_size - SAMPLE, 0)):
        file.seek(start)
        digest.update(file.read(SAMPLE))
    return Path(folder) / f"{digest.hexdigest()}.safetensors"


def _is_whole(kept: Path) -> bool:
    """Whether the conversion is there, and its header describes all of it; one that the disk has damaged is made anew."""
    if not kept.is_file():
        return False
    try:
        with open_model_file(kept) as found:
            read_header(found, kept.name)
    except (BadModelFile, MissingModel, OSError) as error:
        log.warning("a conversion in %s is damaged and made anew: %s", kept.parent, error)
        return False
    return True


def _keep(file: io.FileIO, name: str, kept: Path) -> None:
    """Convert `file` into `kept`, which is there whole or not at all."""
    part = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _make_room(kept.parent, 2 * os.fstat(file.fileno()).st_size)
        with part.open("wb") as target:
            _convert(file, name, target)
            os.fsync(target.fileno())
        os.replace(part, kept)
    except OSError as error:
        raise StorageError(f"{name} could not be converted in {kept.parent}: {error.strerror}; free disk space there") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _make_room(folder: Path, wanted: int) -> None:
    """Remove the conversions that were used least lately until `wanted` bytes more may be kept, and what a kill left half written."""
    files = []
    for path in folder.iterdir():
        with suppress(OSError):
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    room = MOST_KEPT - sum(size for _, size, _ in files)
    for mtime, size, path in sorted(files):
        abandoned = path.suffix == ".part" and mtime < time.time() - ABANDONED
        if abandoned or (room < wanted and path.suffix == ".safetensors"):
            path.unlink(missing_ok=True)
            room += size


def _convert(file: io.FileIO, name: str, target: BinaryIO) -> None:
    """Have a process of its own write into `target` what `file` holds."""
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")}
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "webui.engine.unpickle", name],
            stdin=file,
            stdout=target,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
            timeout=SLOWNESS * (SECONDS + size // BYTES_A_SECOND),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadModelFile(f"{name} takes too long to read; it is damaged or hostile, or its disk is very slow") from None
    if answer.returncode:
        raise _refusal(answer.returncode, answer.stderr.decode("utf-8", "replace"), name)


def _refusal(status: int, told: str, name: str) -> EaselError:
    sentence = told.rpartition(MARK)[2].strip()[:500] if MARK in told else ""
    if status == DISK_FULL:
        return StorageError(f"{name} could not be converted: {sentence}; free disk space")
    if status == REFUSED and sentence:
        return BadModelFile(sentence)
    return BadModelFile(f"{name} could not be read within the memory and time that a file of its size needs; it is damaged or hostile")
