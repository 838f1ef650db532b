"""How infotext names checkpoints: by the stem of their file, as A1111 does, and where that is not all, whole under a second key."""

from collections.abc import Iterator

from webui.core.key_values import Values

ENDING = ".safetensors"  # of a name that has none
ENDINGS = (ENDING, ".ckpt")


def stem(name: str) -> str:
    """ "folder/v1-5.ckpt" -> "v1-5"."""
    base = name.rpartition("/")[2]
    ending = next((ending for ending in ENDINGS if base.lower().endswith(ending)), "")
    return base[: len(base) - len(ending)] or name


def from_stem(text: str) -> str:
    """The name in the catalog that our "Model" names where it does not say otherwise; "v1-5" -> "v1-5.safetensors"."""
    return text if text.lower().endswith(ENDINGS) else text + ENDING


def checkpoint_items(key: str, name: str, digits: str) -> Iterator[tuple[str, str]]:
    """name: in the catalog; digits: the first of its sha256, or "". "name [hash]"; `read_checkpoint` gives both back."""
    text = stem(name) + (f" [{digits}]" if digits else "")
    yield key, text
    if _parted(text) != (name, digits):
        yield f"{key} file", name


def read_checkpoint(values: Values, key: str, ours: bool) -> tuple[str, str]:
    """(name, hash), "" where absent. Of other programs' texts the name is whatever they say: the catalog finds "name [hash]"."""
    text, file = values.text(key), values.text(f"{key} file")
    name, digits = _parted(text) if ours and text else (text, "")
    return file or name, digits


def _parted(text: str) -> tuple[str, str]:
    """(name in the catalog, hash) of "name [hash]"."""
    name, bracket, rest = text.rpartition(" [")
    digits = rest[:-1] if bracket and rest.endswith("]") else ""
    name = name if digits else text
    return from_stem(name), digits
