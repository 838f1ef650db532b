"""The user's phrases, files under the data folder: styles.csv and styles/*.csv, wildcards/**/*.txt; read whenever they are asked for.

Styles are changed in the file that they are in; the file as it was before is kept beside it, with the ending .bak.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from webui.core.errors import BadRequest, MissingModel, StorageError
from webui.core.model_orders import check_file_name
from webui.core.styles import Style, checked, is_damaged, read_styles, write_styles
from webui.service.files import make_folder, write_whole

MAX_BYTES = 16_000_000  # of one file
USUAL_FILE = "styles.csv"  # for new styles; below the data folder, as all
log = logging.getLogger("easel")

MOST_COMPLETED = 20


@dataclass(frozen=True)
class KeptStyle:
    """A style and the file that it is in: USUAL_FILE or one of the folder styles, as "styles/more.csv"."""

    style: Style
    file: str


class Phrases:
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._told: set[str] = set()  # damaged files that the log has named
        self._lock = threading.Lock()  # over changes of style files
        self.wildcards_dir = data_dir / "wildcards"

    def styles(self) -> list[Style]:
        """Those of styles.csv, then those of the other files by name; of one name the first."""
        return [kept.style for kept in self.kept_styles()]

    def kept_styles(self) -> list[KeptStyle]:
        """As `styles`, each with its file."""
        found: dict[str, KeptStyle] = {}
        for file in self.style_files():
            text = _read(self._data_dir / file)
            if is_damaged(text) and file not in self._told:
                self._told.add(file)
                log.warning(
                    "%s is damaged, no text of UTF-8; styles in it may be missing, and it stays as it is: mend it in an editor", file
                )
            for style in read_styles(text):
                found.setdefault(style.name, KeptStyle(style, file))
        return list(found.values())

    def style_files(self) -> list[str]:
        """Where styles are, and new ones may go."""
        return [USUAL_FILE, *(f"styles/{file.name}" for file in sorted((self._data_dir / "styles").glob("*.csv")))]

    def save_style(self, style: Style, was: str = "", file: str = "") -> None:
        """Keep a style in the place of the one named `was`, or of its own name; a new one at the end of `file`.

        Raises BadRequest for a name that no style can have, or that another style has; StorageError.
        """
        style = checked(style)
        with self._lock:
            homes = {kept.style.name: kept.file for kept in self.kept_styles()}
            if was and was != style.name and style.name in homes:
                raise BadRequest(f"there is a style {style.name!r} already; choose another name, or delete that one first")
            old = was if was in homes else style.name
            home = homes.get(old) or file or USUAL_FILE
            styles = {each.name: each for each in self._styles_of(home)}
            changed = [style if name == old else each for name, each in styles.items()]
            self._write(home, changed if old in styles else [*changed, style])

    def remove_style(self, name: str) -> None:
        """Raises MissingModel where there is none of that name, BadRequest, StorageError."""
        with self._lock:
            home = next((kept.file for kept in self.kept_styles() if kept.style.name == name), None)
            if home is None:
                raise MissingModel(f"there is no style {name[:100]!r}; it may have been deleted already")
            self._write(home, [style for style in self._styles_of(home) if style.name != name])

    def _styles_of(self, file: str) -> list[Style]:
        """All of one file's, which is about to be written anew. Raises BadRequest where some of it could not be read, and would be lost."""
        if file not in self.style_files():
            folder, _, name = file.rpartition("/")
            if folder != "styles" or not name.endswith(".csv"):
                raise BadRequest(f"styles are kept in {USUAL_FILE} or in styles/NAME.csv, not in {file[:100]!r}")
            check_file_name(name.removesuffix(".csv"))
        return read_styles(_read(self._data_dir / file), whole=True)

    def _write(self, file: str, styles: Sequence[Style]) -> None:
        path = self._data_dir / file
        try:
            make_folder(path.parent)
            if path.exists():
                write_whole(path.with_name(f"{path.name}.bak"), path.read_bytes())
            write_whole(path, b"\xef\xbb\xbf" + write_styles(styles).encode())
        except OSError as error:
            raise StorageError(f"{file} cannot be written ({error.strerror}); the style is not saved") from error

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

    def completions(self, text: str) -> list[tuple[str, str, str]]:
        """Kind, name and what is put into the prompt: wildcards for `__na`, else styles whose name begins so; the first 20 by name."""
        wanted = text.casefold()
        if wanted.startswith("__"):
            names = [file.relative_to(self.wildcards_dir).with_suffix("").as_posix() for file in self._files()]
            return [("wildcard", name, f"__{name}__") for name in names if wanted[2:] in name.casefold()][:MOST_COMPLETED]
        styles = [style for style in self.styles() if wanted and style.name.casefold().startswith(wanted)]
        inserts = [(style.name, style.prompt.replace("{prompt}", "").strip(" ,")) for style in styles]
        return [("style", name, insert) for name, insert in inserts if insert][:MOST_COMPLETED]

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
