"""Hashes of LoRA files, as infotexts carry them: "Lora hashes: "name: 0123456789ab, other: ..."".

Trap: programs have written the hash of nothing (e3b0c44298fc, sha256 of zero bytes) for files whose bytes they did not see, so pictures
carry it, and files that share it have nothing in common. It is never written and never read here.
"""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from webui.core.errors import BadModelFile
from webui.core.safetensors_header import open_model_file, read_header

DIGITS = 12
OF_NOTHING = hashlib.sha256().hexdigest()


def lora_hash(path: Path) -> str:
    """12 hex digits: of the hash that the trainer noted, else of a safetensors file's tensors without the header, else of the whole
    file; "" for a file without tensors. So editing metadata does not change it. Raises BadModelFile where the file cannot be read.
    """
    with open_model_file(path) as file:
        try:
            noted = read_header(file, path.name).metadata.get("sshs_model_hash", "").lower()
        except BadModelFile:
            digest = _sha256_from(file, 0, path.name)
        else:
            digest = noted if _is_sha256(noted) else _sha256_from(file, _data_start(file), path.name)
    return "" if digest == OF_NOTHING else digest[:DIGITS]


def write_lora_hashes(hashes: Iterable[tuple[str, str]]) -> str:
    """The value of "Lora hashes" from (name as the prompt has it, hash), each name once; without those that have no hash."""
    named = {name.replace(":", "").replace(",", ""): digest for name, digest in hashes if digest}
    return ", ".join(f"{name}: {digest}" for name, digest in named.items())


def read_lora_hashes(text: str) -> dict[str, str]:
    """Name -> hash out of the value of "Lora hashes"; what is none, and the hash of nothing, are left out."""
    pairs = (part.rpartition(":") for part in text.split(","))
    found = {name.strip(): digest.strip().lower() for name, _, digest in pairs}
    return {name: digest for name, digest in found.items() if name and _is_hash(digest)}


def _is_hash(digest: str) -> bool:
    return len(digest) >= DIGITS and set(digest) <= set("0123456789abcdef") and not OF_NOTHING.startswith(digest)


def _is_sha256(digest: str) -> bool:
    return len(digest) == len(OF_NOTHING) and _is_hash(digest)


def _data_start(file: io.FileIO) -> int:
    file.seek(0)
    return 8 + int.from_bytes(file.read(8), "little")


def _sha256_from(file: io.FileIO, start: int, name: str) -> str:
    """Of all bytes from `start`."""
    file.seek(start)
    try:
        return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadModelFile(f"{name} cannot be read: {error.strerror}") from None
