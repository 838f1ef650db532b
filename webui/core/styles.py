"""Styles: pieces of prompt under a name, in CSV files as A1111 keeps them (name, prompt, negative_prompt)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from webui.core.errors import BadRequest

SLOT = "{prompt}"
OLD_PROMPT = "text"  # what the column was called once
MAX_FILE = 4_000_000  # characters
MAX_LENGTH = 100_000  # characters of a prompt with its styles
NOT_A_NAME = ("", "None")  # clients send them for no style


@dataclass(frozen=True)
class Style:
    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(text: str) -> list[Style]:
    """The styles of a file, in its order; of one name the last. Rows that cannot be read, or have no name, are passed over."""
    rows = csv.DictReader(io.StringIO(text[:MAX_FILE].lstrip("\ufeff").replace("\0", ""), newline=""))
    found: dict[str, Style] = {}
    try:
        for row in rows:
            name = (row.get("name") or "").strip()
            if name not in NOT_A_NAME:
                found[name] = Style(name, row.get("prompt") or row.get(OLD_PROMPT) or "", row.get("negative_prompt") or "")
    except csv.Error:  # a field beyond the module's limit, as an unclosed quote makes one
        pass
    return list(found.values())


def with_styles(prompt: str, pieces: Sequence[str]) -> str:
    """`prompt` put into each piece in turn: into its slot, else before it with a comma. Raises BadRequest where that gets too long."""
    for piece in pieces:
        if len(piece) + max(1, piece.count(SLOT)) * len(prompt) > MAX_LENGTH:
            raise BadRequest(f"with its styles the prompt would have more than {MAX_LENGTH} characters; choose fewer or shorter ones")
        if SLOT in piece:
            prompt = piece.replace(SLOT, prompt)
        else:
            prompt = ", ".join(filter(None, (prompt.strip(), piece.strip()))) if piece.strip() else prompt
    return prompt
