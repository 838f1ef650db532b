"""How infotext names a checkpoint beside the first one: "name [hash]", and the whole file name under a second key where that is not it."""

from collections.abc import Iterator

from webui.core.key_values import Values

ENDING = ".safetensors"  # is left out


def checkpoint_items(key: str, name: str, digits: str) -> Iterator[tuple[str, str]]:
    """name: in the catalog; digits: the first of its sha256, or "". `read_checkpoint` gives both back."""
    text = name.removesuffix(ENDING) + (f" [{digits}]" if digits else "")
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
    return (name if name.lower().endswith((ENDING, ".ckpt")) else name + ENDING), digits
