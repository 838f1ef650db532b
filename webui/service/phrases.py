"""The user's phrases, files under the data folder: styles.csv and styles/*.csv, wildcards/**/*.txt; read whenever they are asked for."""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from webui.core.errors import BadRequest
from webui.core.styles import Style, read_styles

MAX_BYTES = 16_000_000  # of one file
log = logging.getLogger("easel")


class Phrases:
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.wildcards_dir = data_dir / "wildcards"

    def styles(self) -> list[Style]:
        """Those of styles.csv, then those of the other files by name; of one name the first."""
        files = [self._data_dir / "styles.csv", *sorted((self._data_dir / "styles").glob("*.csv"))]
        found: dict[str, Style] = {}
        for file in files:
            for style in read_styles(_read(file)):
                found.setdefault(style.name, style)
        return list(found.values())

    def lines(self, name: str) -> Sequence[str]:
        """The lines of the wildcard files of that name, * standing for any characters; empty ones and comments are none.

        Names are compared with those of the files that are there, case ignored: no name leads out of the folder. Raises BadRequest.
        """
        wanted = name.casefold()
        files = {file.relative_to(self.wildcards_dir).with_suffix("").as_posix(): file for file in self._files()}
        lines = [line for found, file in files.items() if fnmatchcase(found.casefold(), wanted) for line in _lines(file)]
        if not lines:
            raise BadRequest(
                f"the prompt names the wildcard __{name[:80]}__, and there is no such file with lines in it; put {name[:80]}.txt into "
                f"{self.wildcards_dir}, or write \\__ for underscores that are text"
            )
        return lines

    def _files(self) -> list[Path]:
        return sorted(self.wildcards_dir.rglob("*.txt"))


def _lines(file: Path) -> list[str]:
    lines = (line.strip() for line in _read(file).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read(file: Path) -> str:
    """The file's text; "" where it is not there or cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES).decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        log.warning("%s cannot be read (%s) and is passed over", file.name, error.strerror)
        return ""
