"""Styles: pieces of prompt under a name, in CSV files as A1111 keeps them (name, prompt, negative_prompt)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from webui.core.errors import BadRequest

SLOT = "{prompt}"
OLD_PROMPT = "text"  # what the column was called once
MAX_FILE = 4_000_000  # characters
MAX_NAME = 200  # characters
MAX_LENGTH = 100_000  # characters of a prompt with its styles
NOT_A_NAME = ("", "None")  # clients send them for no style


@dataclass(frozen=True)
class Style:
    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(text: str, whole: bool = False) -> list[Style]:
    """The styles of a file, in its order; of one name the last. Rows that cannot be read, or have no name, are passed over.

    Raises BadRequest where `whole` is asked for and some of the file cannot be read.
    """
    if whole and (len(text) > MAX_FILE or is_damaged(text)):
        raise BadRequest("the file of styles is too long, or no text of UTF-8, so it is not written anew; mend it in an editor first")
    rows = csv.DictReader(io.StringIO(text[:MAX_FILE].lstrip("\ufeff").replace("\0", ""), newline=""))
    found: dict[str, Style] = {}
    try:
        for row in rows:
            name = (row.get("name") or "").strip()
            if name not in NOT_A_NAME:
                found[name] = Style(name, row.get("prompt") or row.get(OLD_PROMPT) or "", row.get("negative_prompt") or "")
    except csv.Error as error:  # a field beyond the module's limit, as an unclosed quote makes one
        if whole:
            raise BadRequest(f"the file of styles cannot be read to its end ({error}); mend it in an editor first") from None
    return list(found.values())


def is_damaged(text: str) -> bool:
    """Whether a file's text, read with replacements for what is not UTF-8, shows that it is none."""
    return "\0" in text or "\ufffd" in text


def write_styles(styles: Sequence[Style]) -> str:
    """The text of a file, which `read_styles` and A1111 read."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(("name", "prompt", "negative_prompt"))
    rows.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
    return text.getvalue()


def checked(style: Style) -> Style:
    """The style as a file can hold it. Raises BadRequest."""
    name = style.name.strip()
    if name in NOT_A_NAME or len(name) > MAX_NAME or not name.isprintable():
        raise BadRequest(f"a style needs a name of 1 to {MAX_NAME} characters, other than None")
    if max(len(style.prompt), len(style.negative_prompt)) > MAX_LENGTH or "\0" in style.prompt + style.negative_prompt:
        raise BadRequest(f"the style {name!r} is longer than {MAX_LENGTH} characters, or has characters that are no text; shorten it")
    return replace(style, name=name)


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
