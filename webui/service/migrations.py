"""The shape of the database, as steps that are only ever appended; PRAGMA user_version counts the steps taken."""

import sqlite3

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        status TEXT NOT NULL,
        request TEXT NOT NULL,
        save INTEGER NOT NULL,
        created REAL NOT NULL,
        deaths INTEGER NOT NULL DEFAULT 0,
        restarts INTEGER NOT NULL DEFAULT 0,
        seq INTEGER NOT NULL DEFAULT 1,
        error TEXT NOT NULL DEFAULT '',
        error_status INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_status ON jobs (status, owner, number);
    CREATE INDEX jobs_by_owner ON jobs (owner, number);
    CREATE TABLE turns (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL);
    CREATE TABLE pictures (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job TEXT NOT NULL,
        owner TEXT NOT NULL,
        temporary INTEGER NOT NULL,
        path TEXT NOT NULL,
        infotext TEXT NOT NULL,
        request TEXT NOT NULL,
        seed INTEGER NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        created REAL NOT NULL,
        UNIQUE (temporary, path)
    );
    CREATE INDEX pictures_by_job ON pictures (job, id);
    CREATE INDEX pictures_by_owner ON pictures (owner, id);
    CREATE TABLE preferences (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE hashes (path TEXT PRIMARY KEY, mtime REAL NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
    """,
    "ALTER TABLE jobs ADD COLUMN notices TEXT NOT NULL DEFAULT '';",
    """
    CREATE TABLE models (
        kind TEXT NOT NULL,
        path TEXT NOT NULL,
        name TEXT NOT NULL,
        mtime REAL NOT NULL,
        size INTEGER NOT NULL,
        stamp TEXT NOT NULL,
        reader TEXT NOT NULL DEFAULT '',
        sorted TEXT NOT NULL,
        bare TEXT NOT NULL,
        stem TEXT NOT NULL,
        alias TEXT NOT NULL DEFAULT '',
        family TEXT NOT NULL DEFAULT '',
        facts TEXT NOT NULL DEFAULT '',
        problem TEXT NOT NULL DEFAULT '',
        thumbnail TEXT NOT NULL DEFAULT '',
        searched TEXT NOT NULL DEFAULT '',
        card TEXT NOT NULL DEFAULT '{}',
        details TEXT NOT NULL DEFAULT '{}',
        PRIMARY KEY (kind, path)
    );
    CREATE INDEX models_by_name ON models (kind, sorted);
    CREATE INDEX models_by_bare_name ON models (kind, bare);
    CREATE INDEX models_by_stem ON models (kind, stem);
    CREATE INDEX models_by_alias ON models (kind, alias);
    """,
    "ALTER TABLE jobs ADD COLUMN error_name TEXT NOT NULL DEFAULT '';",
    "ALTER TABLE jobs ADD COLUMN overtaken INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'pictures';",
    "DELETE FROM hashes WHERE path LIKE '%/tensors'; UPDATE models SET reader = '', card = '{}', details = '{}';",
    "ALTER TABLE pictures ADD COLUMN sheet INTEGER NOT NULL DEFAULT 0; ALTER TABLE pictures ADD COLUMN place INTEGER NOT NULL DEFAULT 0;",
    "CREATE TABLE presets (name TEXT PRIMARY KEY, settings TEXT NOT NULL);",
    """
    ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
    UPDATE jobs SET place = number, changed = number;
    CREATE INDEX jobs_by_place ON jobs (place);
    CREATE INDEX jobs_by_change ON jobs (changed);
    CREATE TABLE pauses (owner TEXT PRIMARY KEY);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    """,
    # The gallery. Narrow rows, so that 100,000 of them are looked through in milliseconds; those of older pictures are filled in later.
    """
    CREATE TABLE picture_facts (
        picture INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        created REAL NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        area INTEGER NOT NULL,
        checkpoint TEXT NOT NULL,
        sampler TEXT NOT NULL,
        favourite INTEGER NOT NULL DEFAULT 0,
        trashed REAL NOT NULL DEFAULT 0,
        trash_day INTEGER NOT NULL DEFAULT 0,
        missing INTEGER NOT NULL DEFAULT 0,
        sha256 TEXT NOT NULL DEFAULT '',
        pixels TEXT NOT NULL DEFAULT '',
        recipe TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX picture_facts_by_date ON picture_facts (trashed, created, picture);
    CREATE INDEX picture_facts_by_area ON picture_facts (trashed, area, picture);
    CREATE INDEX picture_facts_by_checkpoint ON picture_facts (trashed, checkpoint, created, picture);
    CREATE INDEX picture_facts_by_sampler ON picture_facts (trashed, sampler, created, picture);
    CREATE INDEX picture_facts_by_size ON picture_facts (trashed, width, height, created, picture);
    CREATE INDEX picture_facts_by_favourite ON picture_facts (trashed, favourite, created, picture);
    CREATE INDEX picture_facts_by_missing ON picture_facts (trashed, created, picture) WHERE missing = 1;
    CREATE INDEX picture_facts_by_owner ON picture_facts (trashed, owner, created, picture);
    CREATE INDEX picture_facts_by_file ON picture_facts (sha256);
    CREATE INDEX picture_facts_by_pixels ON picture_facts (pixels);
    CREATE INDEX picture_facts_by_recipe ON picture_facts (recipe, picture);
    CREATE VIRTUAL TABLE picture_words USING fts5 (prompt, negative, rest, tokenize = "unicode61 remove_diacritics 2", prefix = '1 2 3');
    CREATE TABLE picture_labels (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        picture INTEGER NOT NULL,
        PRIMARY KEY (kind, name, picture)
    ) WITHOUT ROWID;
    CREATE INDEX picture_labels_by_picture ON picture_labels (picture);
    CREATE TABLE picture_sources (
        picture INTEGER NOT NULL,
        relation TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (picture, relation, sha256)
    ) WITHOUT ROWID;
    CREATE INDEX picture_sources_by_file ON picture_sources (sha256);
    CREATE TABLE input_pixels (sha256 TEXT PRIMARY KEY, pixels TEXT NOT NULL);
    CREATE INDEX input_pixels_by_pixels ON input_pixels (pixels);
    CREATE TABLE days_of_use (number INTEGER PRIMARY KEY, day TEXT NOT NULL UNIQUE);
    CREATE TABLE picture_moves (picture INTEGER PRIMARY KEY, source TEXT NOT NULL, target TEXT NOT NULL);
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that this file has not seen yet, each in one transaction. Raises sqlite3.DatabaseError for a file of a later Easel."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"it has version {version}, this Easel knows {len(MIGRATIONS)}")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
