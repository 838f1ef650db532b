"""What a user has set, one row for each name; names and limits are those of core.preferences.PREFERENCES."""

import json
from collections.abc import Mapping
from typing import Any

from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES
from webui.service.database import Database, DatabaseReader

KNOWN = {preference.name: preference for preference in PREFERENCES}


class PreferenceReader:
    """Reads the rows, also those of another process."""

    def __init__(self, database: Database | DatabaseReader):
        self._readable = database

    def all(self) -> dict[str, Any]:
        """Every preference; its default where nothing, or nothing usable, is stored. Raises StorageError."""
        values: dict[str, Any] = {preference.name: preference.default for preference in PREFERENCES}
        for row in self._readable.read("SELECT name, value FROM preferences"):
            if row["name"] in KNOWN:
                try:
                    values[row["name"]] = KNOWN[row["name"]].check(json.loads(row["value"]))
                except (ValueError, BadRequest):
                    continue  # of another version, or damaged: the default holds
        return values


class PreferenceStore(PreferenceReader):
    """Reads and writes the rows."""

    def __init__(self, database: Database):
        super().__init__(database)
        self._database = database

    def set(self, values: Mapping[str, Any]) -> None:
        """Store all values, or none if one is wrong. Raises BadRequest."""
        checked = []
        for name, value in values.items():
            if name not in KNOWN:
                raise BadRequest(f"there is no preference {name!r}; those there are: {', '.join(KNOWN)}")
            checked.append((name, json.dumps(KNOWN[name].check(value))))
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO preferences (name, value) VALUES (?, ?)", checked)
