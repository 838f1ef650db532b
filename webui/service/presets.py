"""Named sets of preferences, and what a set would change: for presets, files of settings, and config.json of A1111's web UI."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webui.core.catalog import Catalog
from webui.core.errors import BadRequest, EaselError, MissingModel
from webui.service.database import Database
from webui.service.preferences import KNOWN, PreferenceStore

MAX_PRESETS = 200
MAX_NAME = 80  # characters


@dataclass(frozen=True)
class Comparison:
    """What a set of values would do. changes: name -> (now, then). wrong: name -> sentence. unknown: names that are no preference's."""

    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    same: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    wrong: dict[str, str] = field(default_factory=dict)


class Presets:
    def __init__(self, database: Database, preferences: PreferenceStore, catalog: Catalog):
        self._database = database
        self._preferences = preferences
        self._catalog = catalog

    def names(self) -> list[str]:
        return [row["name"] for row in self._database.read("SELECT name FROM presets ORDER BY name COLLATE NOCASE")]

    def get(self, name: str) -> dict[str, Any]:
        """Raises MissingModel."""
        rows = self._database.read("SELECT settings FROM presets WHERE name = ?", (name,))
        if not rows:
            raise MissingModel(f"there is no preset {name[:MAX_NAME]!r}; look at the list of those there are")
        settings: dict[str, Any] = json.loads(rows[0]["settings"])
        return settings

    def keep(self, name: str) -> None:
        """Keep the preferences that differ from their defaults under a name, in place of what had that name. Raises BadRequest."""
        name = name.strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise BadRequest(f"a preset's name has 1 to {MAX_NAME} letters that can be seen")
        if name not in self.names() and len(self.names()) >= MAX_PRESETS:
            raise BadRequest(f"there are {MAX_PRESETS} presets already; remove one first")
        now = self._preferences.all()
        own = {key: value for key, value in now.items() if value != KNOWN[key].default}
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO presets (name, settings) VALUES (?, ?)", (name, json.dumps(own)))

    def remove(self, name: str) -> None:
        """Raises MissingModel."""
        self.get(name)
        with self._database.write() as connection:
            connection.execute("DELETE FROM presets WHERE name = ?", (name,))

    def compared(self, values: Mapping[str, Any], whole: bool = False) -> Comparison:
        """What setting `values` would change. whole: preferences that are not among them go back to their defaults."""
        if whole:
            values = {name: preference.default for name, preference in KNOWN.items()} | dict(values)
        now = self._preferences.all()
        changes, same, unknown, wrong = {}, [], [], {}
        for name, value in values.items():
            if name not in KNOWN:
                unknown.append(_shown(name))
                continue
            try:
                then = self._settled(name, KNOWN[name].check(value))
            except EaselError as error:
                wrong[name] = _shown(str(error))
                continue
            if then == now[name]:
                same.append(name)
            else:
                changes[name] = (now[name], then)
        return Comparison(changes, tuple(same), tuple(unknown), wrong)

    def _settled(self, name: str, value: Any) -> Any:
        """Checkpoint, VAE and text encoders by the names that Easel has for them."""
        if name == "sd_model_checkpoint" and value:
            return self._catalog.find_checkpoint(str(value)).name
        if name == "sd_vae" and value not in ("Automatic", "None"):
            return self._catalog.find_vae(str(value)).name
        return self._catalog.text_encoders.checked({name: value}).get(name, value)


def _shown(text: str) -> str:
    """A stranger's text as an answer can hold it: without halves of surrogate pairs, and not endless."""
    return text[:1000].encode("utf-8", "replace").decode("utf-8")
