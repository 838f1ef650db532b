"""webui/service/database.py and migrations.py."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from webui.core.errors import StorageError
from webui.service.database import Database, open_database
from webui.service.migrations import MIGRATIONS

PUT = "INSERT INTO preferences VALUES ('a', '1')"


def test_a_new_database_has_taken_every_migration(database: Database) -> None:
    assert database.read("PRAGMA user_version")[0][0] == len(MIGRATIONS)


def test_commits_go_to_disk_through_a_full_sync(database: Database) -> None:
    assert database.read("PRAGMA journal_mode")[0][0] == "wal"
    assert database.read("PRAGMA synchronous")[0][0] == 2


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(PUT)
            connection.execute("SELECT nonsense")

    with pytest.raises(StorageError, match="nonsense"):
        fail()
    assert not database.read("SELECT * FROM preferences")


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "data" / "easel.sqlite3"
    first, _ = open_database(path)
    with first.write() as connection:
        connection.execute(PUT)
    first.close()
    second, warnings = open_database(path)
    assert len(second.read("SELECT * FROM preferences")) == 1
    assert warnings == ()
    second.close()


def test_a_second_easel_on_the_same_folder_is_refused(tmp_path: Path, database: Database) -> None:
    with pytest.raises(StorageError, match="another Easel already uses"):
        open_database(database.path)


@pytest.mark.parametrize("damage", ["noise", "header", "middle", "schema", "later", "foreign", "folder"])
def test_a_damaged_database_is_kept_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "easel.sqlite3"
    spoil(path, damage)
    opened, warnings = open_database(path)
    assert [name.name for name in tmp_path.glob("easel.sqlite3.bak-????-??-??")]
    assert "is kept as easel.sqlite3.bak-" in warnings[0]
    with opened.write() as connection:
        connection.execute(PUT)
    assert opened.read("PRAGMA integrity_check")[0][0] == "ok"
    opened.close()


def test_two_damaged_databases_of_one_day_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "easel.sqlite3"
    for _ in range(2):
        spoil(path, "noise")
        open_database(path)[0].close()
    assert sorted(len(kept.read_bytes()) for kept in tmp_path.glob("*.bak-*")) == [5000, 5000]


def spoil(path: Path, damage: str) -> None:
    path.unlink(missing_ok=True)
    if damage == "noise":
        path.write_bytes(b"noise" * 1000)
    elif damage == "folder":
        path.mkdir()
    elif damage == "foreign":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE jobs (of_somebody_else)")
        connection.close()
    else:
        opened, _ = open_database(path)
        with opened.write() as connection:
            connection.executemany("INSERT INTO preferences VALUES (?, ?)", [(str(i), "x" * 500) for i in range(500)])
        if damage == "later":
            with opened.write() as connection:
                connection.execute("PRAGMA user_version = 999")
        opened.close()
        data = bytearray(path.read_bytes())
        if damage == "header":
            data[0:20] = bytes(20)
        if damage == "schema":
            at = data.index(b"CREATE TABLE preferences")
            data[at : at + 6] = b"CREAT\xd2"
        if damage == "middle":
            data[4096 : 4096 * 30] = b"\xff" * (4096 * 29)
        path.write_bytes(data)


def test_an_emptied_file_is_begun_anew_and_told(tmp_path: Path) -> None:
    path = tmp_path / "easel.sqlite3"
    path.touch()
    opened, warnings = open_database(path)
    assert warnings == ("the database was empty: queue and settings start afresh, and pictures are looked for in the outputs",)
    opened.close()
    assert open_database(path)[1] == ()


def test_the_log_of_an_emptied_file_is_kept(tmp_path: Path, database: Database) -> None:
    """SQLite deletes it without a word, with every commit since the last checkpoint."""
    with database.write() as connection:
        connection.execute("INSERT INTO preferences VALUES ('told', 'only in the log')")
    log = database.path.with_name("easel.sqlite3-wal").read_bytes()
    path = tmp_path / "emptied" / "easel.sqlite3"
    path.parent.mkdir()
    path.touch()
    path.with_name("easel.sqlite3-wal").write_bytes(log)
    opened, warnings = open_database(path)
    opened.close()
    (kept,) = path.parent.glob("easel.sqlite3.bak-*-wal")
    assert b"only in the log" in log == kept.read_bytes()
    assert kept.name.removesuffix("-wal") in warnings[0]


def test_a_data_folder_that_takes_no_lock_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "easel.sqlite3.lock").mkdir()
    with pytest.raises(StorageError, match=r"cannot be used: easel\.sqlite3\.lock: .* --data-dir"):
        open_database(tmp_path / "easel.sqlite3")


def test_a_full_disk_is_a_storage_error_and_the_database_goes_on(database: Database) -> None:
    pages = database.read("PRAGMA page_count")[0][0]
    database.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="free disk space"), database.write() as connection:
        connection.execute("INSERT INTO preferences VALUES ('big', ?)", ("x" * 100_000,))
    database.read("PRAGMA max_page_count = 1000000")
    with database.write() as connection:
        connection.execute("INSERT INTO preferences VALUES ('big', ?)", ("x" * 100_000,))
    assert len(database.read("SELECT * FROM preferences")) == 1


def test_a_data_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="--data-dir"):
        open_database(tmp_path / "file" / "easel.sqlite3")


def test_use_after_close_is_a_storage_error(tmp_path: Path) -> None:
    opened, _ = open_database(tmp_path / "easel.sqlite3")
    opened.close()
    with pytest.raises(StorageError):
        opened.read("SELECT 1")


def test_bytes_that_are_no_text_do_not_make_a_row_unreadable(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO preferences VALUES ('a', CAST(x'ff41' AS TEXT))")
    assert database.read("SELECT value FROM preferences")[0][0] == "\ufffdA"


def test_a_crash_between_commit_and_close_loses_nothing(tmp_path: Path, database: Database) -> None:
    with database.write() as connection:
        connection.execute(PUT)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("easel.sqlite3*"):
        shutil.copy(file, crashed)
    again, _ = open_database(crashed / "easel.sqlite3")
    assert len(again.read("SELECT * FROM preferences")) == 1
    again.close()
