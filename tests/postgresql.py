"""A PostgreSQL server of the tests' own, from the system's binaries, in a folder that goes with it."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from pysqlite3 import dbapi2
from sqlalchemy import Connection, inspect

from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import database_path, open_database, open_for_role
from konomi_chassis.storage.postgresql.engine import open_postgresql, open_to_read
from konomi_chassis.storage.postgresql.transfer import copy
from konomi_chassis.storage.schema import Schema

on_both_engines = pytest.mark.parametrize(
    "kept_in", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""Runs one test of a service on both, where its module does not say BOTH_ENGINES for all."""
NAMES = ("initdb", "pg_ctl")
"""What is needed of the binaries."""
SETTINGS = (
    "listen_addresses=''",  # by its socket alone
    "max_connections=300",
    "shared_buffers=32MB",
)


def binaries() -> Path | None:
    """Returns the folder of the newest server binaries here, None where there are none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name.split(".")[0]))
    return next((folder for folder in folders if all((folder / name).exists() for name in NAMES)), None)


class Server:
    """A running server; `databases` counts those made in it."""

    def __init__(self, bin_folder: Path, folder: Path, user: str | None) -> None:
        self.bin, self.folder, self.user, self.databases = bin_folder, folder, user, 0
        self.data = folder / "data"

    def url(self, database: str) -> str:
        """Returns the URL of a database, by the server's socket."""
        return f"postgresql://konomi@/{database}?host={self.folder}"

    def database(self) -> str:
        """Makes an empty database and returns its URL."""
        self.databases += 1
        name = f"d{self.databases}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' STRATEGY FILE_COPY")
        return self.url(name)

    def run(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Runs one statement outside konomi."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Gives the running server another setting for a while."""
        before = self.run(f"SHOW {name}")[0][0]
        try:
            self._set(name, value)
            yield
        finally:
            self._set(name, before)

    def _set(self, name: str, value: str) -> None:
        self.run(f"ALTER SYSTEM SET {name} = {value}")
        self.run("SELECT pg_reload_conf()")
        while self.run(f"SHOW {name}")[0][0] != value:
            time.sleep(0.01)

    def command(self, *words: str) -> None:
        """Runs one of the server's own commands, as the user it belongs to."""
        done = subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            user=self.user,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"{words[0]} failed: {done.stderr}")

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        options = " ".join(f"-c {setting}" for setting in (*SETTINGS, f"unix_socket_directories={self.folder}"))
        self.command("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stops the server; "immediate" as a crash would."""
        self.command("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def kill(self) -> None:
        """Kills all processes of the server at once, as a kernel that runs out of memory would, and starts it anew."""
        master = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        for pid in (master, *children(master)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for attempt in range(100):
            try:
                self.start()
                return
            except AssertionError:  # what was killed still holds the memory they shared
                if attempt == 99:
                    raise
                time.sleep(0.1)


def children(parent: int) -> list[int]:
    """Returns the processes another one started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = path.read_text().rpartition(")")[2].split()
            found += [int(path.parent.name)] if int(after_name[1]) == parent else []
    return found


class Rows:
    """Where a test's rows are: SQLite files of its homes, or a database of a server for each home."""

    def __init__(self, server: Server | None) -> None:
        self.server, self._urls = server, {}

    def settings(self, home: Path) -> DatabaseSettings:
        """Returns the settings of a home, the same ones for the same home."""
        if self.server is None:
            return DatabaseSettings(home=home)
        if home not in self._urls:
            self._urls[home] = self.server.database()
            home.mkdir(parents=True, exist_ok=True)
            (home / "konomi.toml").write_text(f'[database]\nurl = "{self._urls[home]}"\n')  # for its services
        return DatabaseSettings(home=home)

    def move(self, home: Path, schema: Schema) -> None:
        """Moves what a home has in SQLite to where its rows are to be."""
        settings, path = self.settings(home), database_path(home, schema)
        if self.server is None or not path.exists():
            return
        source = open_database(path, schema.migrations)
        target = open_postgresql(settings.url, schema)
        copy(source, target, schema)
        source.dispose()
        target.dispose()
        path.unlink()

    def open(self, home: Path, schema: Schema, **options) -> sqlalchemy.Engine:
        """Opens a role's database of a home."""
        return open_for_role(self.settings(home), schema, **options)


def beside(home: Path) -> sqlalchemy.Engine:
    """Returns another way into the database of a home's rater, which alone may open it as konomi does."""
    url = DatabaseSettings(home=home).url
    if not url.get_secret_value():
        return sqlalchemy.create_engine(f"sqlite:///{home / 'databases' / 'rater.sqlite'}", module=dbapi2)
    return open_to_read(url, Schema("rater", (), sqlalchemy.MetaData()))


def unguard(connection: sqlalchemy.Connection, table: str, verb: str) -> None:
    """Takes the trigger away that keeps a table append-only, as somebody with a console could."""
    on = f" ON {table}" if connection.dialect.name == "postgresql" else ""
    connection.exec_driver_sql(f"DROP TRIGGER {table}_{verb}{on}")


@contextmanager
def serving(bin_folder: Path, on: Path | None = None) -> Iterator[Server]:
    """Gives a server that runs; PostgreSQL refuses to run as root, so root lends it another user's name.

    Args:
        bin_folder: its binaries.
        on: the folder whose disk it is to use; None for memory, so that no test waits for a disk.
    """
    user = None
    if os.getuid() == 0:
        user = next((name for name in ("postgres", "nobody") if _known(name)), None)
    memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pg", dir=on or memory) as name:
        folder = Path(name).resolve()
        if user is not None:
            shutil.chown(folder, user)
        server = Server(bin_folder, folder, user)
        server.command("initdb", "-D", str(server.data), "-U", "konomi", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


KINDS = {"BIGINT": "INTEGER", "DOUBLE PRECISION": "REAL", "BYTEA": "BLOB"}


def words(condition: object) -> str:
    """A rule without the brackets, casts and line breaks one engine adds to it."""
    plain = re.sub(r"::\w+|[()]", "", str(condition))
    plain = re.sub(r"= ANY ARRAY\[(.*?)\]", r"IN \1", plain)
    plain = re.sub(r"(\w+) >= (\d+) AND \w+ <= (\d+)", r"\1 BETWEEN \2 AND \3", plain)
    return " ".join(plain.split())


def described(connection: Connection) -> dict[str, dict]:
    """What an engine itself says of its tables."""
    seen = inspect(connection)
    found = {}
    for table in seen.get_table_names():
        if table == "schema_state":  # PostgreSQL's place for SQLite's user_version
            continue
        key = seen.get_pk_constraint(table)["constrained_columns"]
        found[table] = {
            "columns": [
                (
                    column["name"],
                    KINDS.get(str(column["type"]).split(" COLLATE")[0], str(column["type"]).split(" COLLATE")[0]),
                    bool(column["nullable"]) and column["name"] not in key,
                    re.sub(r"::\w+$", "", str(column["default"])) if not column.get("identity") else "None",
                )
                for column in seen.get_columns(table)
            ],
            "key": key,
            "unique": sorted(tuple(rule["column_names"]) for rule in seen.get_unique_constraints(table)),
            "references": sorted(
                (*rule["constrained_columns"], rule["referred_table"], *rule["referred_columns"])
                for rule in seen.get_foreign_keys(table)
            ),
            "checks": sorted(words(rule["sqltext"]) for rule in seen.get_check_constraints(table)),
            "indexes": sorted(
                (
                    index["name"],
                    tuple(index["column_names"]),
                    bool(index["unique"]),
                    words(next((v for k, v in index.get("dialect_options", {}).items() if k.endswith("_where")), "")),
                )
                for index in seen.get_indexes(table)
                if not index.get("duplicates_constraint")
            ),
        }
    return found
