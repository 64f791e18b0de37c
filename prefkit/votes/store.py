"""The vote store: append-only votes in SQL, durable when `record` returns.

A vote carries an id made by whoever casts it, so sending it twice counts once. SQLite by default (one
file in the workspace, write-ahead log, full sync, foreign keys), PostgreSQL by URL. Every change is one
transaction that takes the one write lock at its start, on both, so several processes can work on one
store and nothing that was read in a transaction changes before it writes.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.tables import VOTES, content_id
from prefkit.votes.migrations import migrate
from prefkit.votes.questions import chunks, recount
from prefkit.votes.schema import annotators, exclusions, leases, live_votes, secrets, verdicts, votes, withdrawals
from prefkit.workspace import Workspace

FILE_NAME = "votes.sqlite"
URL_VARIABLE = "PREFKIT_VOTES_URL"  # a database for all workspaces' votes instead of a file in each
LOCK_TIMEOUT_SECONDS = 30.0
_POSTGRES_LOCK = 0x70726566  # any number that everybody uses


class VoteConflict(PrefkitError):
    """A vote contradicts one that is already in the store."""


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class VoteStore:
    """Votes, annotators, leases and exclusions of one workspace.

    Open one with `VoteStore.open` or `VoteStore.in_workspace`. Threads and processes may share it.
    """

    def __init__(self, engine: sa.Engine):
        self.engine = engine
        # SQLite lets waiting connections poll; threads of one process wait in line here instead.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()

    @classmethod
    def in_workspace(cls, workspace: Workspace, *, create: bool = True) -> "VoteStore":
        """Opens the store of a workspace, or the database that `PREFKIT_VOTES_URL` names; see `open`."""
        return cls.open(os.environ.get(URL_VARIABLE) or workspace.root / FILE_NAME, create=create)

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> "VoteStore":
        """Opens a store, and makes an empty one where there is none.

        Args:
            where: a path of an SQLite file, or a database URL: `postgresql://user@host/name`.
            create: False to refuse a missing file instead.

        Raises:
            PrefkitError: the file is missing (with `create=False`), is no vote store, or was made by a
                newer prefkit; the database cannot be reached.
        """
        url = _full_url(where) if isinstance(where, str) and "://" in where else f"sqlite:///{where}"
        if not create and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            raise PrefkitError(f"{where} does not exist: no votes were cast yet; vote with 'prefkit annotate'")
        engine = _engine(url)
        store = cls(engine)
        # A password in the URL is nobody's business.
        shown = str(where) if url.startswith("sqlite") else sa.make_url(url).render_as_string(hide_password=True)
        try:
            _prepare(store, shown)
        except (sqlite3.DatabaseError, sa.exc.DatabaseError) as error:
            why = str(getattr(error, "orig", error)).strip().splitlines()[0]
            raise PrefkitError(f"{shown} cannot be opened as a vote store ({why}); name another one") from error
        return store

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock; what it did is on disk when the block has ended."""
        with self._turn, self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state and locks nobody out."""
        with self.engine.connect().execution_options(prefkit_reading=True) as connection:
            yield connection

    def record(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Stores votes, all or none, and returns how many were new.

        Args:
            rows: dicts with columns of `prefkit.tables.VOTES`; missing ones are null, `repeat` is 0 and
                `created_at` is now.

        Raises:
            VoteConflict: a `vote_id` is known with other content, the annotator has already answered the
                question, or the vote that should be replaced is gone.
        """
        with self.writing() as connection:
            return len(insert_votes(connection, rows))

    def undo(self, vote_id: str) -> None:
        """Takes a vote back by a row that supersedes it. Doing it twice changes nothing.

        Raises:
            VoteConflict: there is no such vote, or another one has replaced it.
        """
        with self.writing() as connection:
            row = connection.execute(sa.select(votes).where(votes.c.vote_id == vote_id)).mappings().one_or_none()
            if row is None or row["choice"] is None:
                raise VoteConflict(f"there is no vote {vote_id} to undo")
            insert_votes(connection, [undo_row(dict(row))])

    def votes(self) -> pd.DataFrame:
        """The votes that count, typed as `VOTES.schema`: not undone, not replaced, not by excluded annotators.

        Where a lead has settled a disagreement, that verdict stands alone for its criterion.
        """
        settled = verdicts.alias("settled")
        overruled = sa.exists().where(
            settled.c.comparison_id == votes.c.comparison_id,
            settled.c.criterion == votes.c.criterion,
            settled.c.kind == "adjudication",
            settled.c.lifted_at.is_(None),
        )
        return self._frame(live_votes().where(~overruled), self._adjudications())

    def cast_votes(self) -> pd.DataFrame:
        """As `votes`, but what annotators said where a lead has settled it: for agreement and quality."""
        return self._frame(live_votes())

    def all_votes(self) -> pd.DataFrame:
        """Every row ever written, undone and replaced ones and undo rows too, typed as `VOTES.schema`."""
        return self._frame(sa.select(votes))

    def register(self, annotator: str, source: str, details: str | None = None) -> None:
        """Makes an annotator known; the first registration stays."""
        with self.writing() as connection:
            ensure_annotators(connection, {annotator: source}, details)

    def annotators(self) -> pd.DataFrame:
        """One row per annotator: annotator, source, details (JSON), created_at, sound_check_at."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(annotators).order_by(annotators.c.annotator)).mappings().all()
        return pd.DataFrame([dict(row) for row in rows], columns=annotators.c.keys())

    def exclude(self, annotator: str, reason: str, *, by: str | None = None) -> None:
        """Leaves an annotator out from now on; what they alone had answered is open again.

        Raises:
            PrefkitError: nobody of that name has voted.
        """
        with self.writing() as connection:
            if not connection.scalar(sa.select(sa.exists().where(annotators.c.annotator == annotator))):
                raise PrefkitError(
                    f"there is no annotator {annotator!r} in this store; 'prefkit votes stats' lists them"
                )
            exclude(connection, annotator, reason, by)

    def readmit(self, annotator: str) -> None:
        """Takes an exclusion back; the annotator's votes count again and the decision stays on record."""
        with self.writing() as connection:
            open_now = (exclusions.c.annotator == annotator) & exclusions.c.lifted_at.is_(None)
            connection.execute(exclusions.update().where(open_now).values(lifted_at=utc_now()))
            recount(connection, _answered_by(connection, annotator))

    def exclusions(self) -> pd.DataFrame:
        """Every decision to leave somebody out: annotator, reason, decided_by, created_at, lifted_at."""
        return self._table(sa.select(exclusions).order_by(exclusions.c.exclusion_id))

    def withdraw(self, annotator: str) -> int:
        """Removes all that a person has cast, and their account, because they no longer consent.

        What stays is that somebody withdrew, when, and how many votes went; the questions they leave
        short are open again.

        Returns:
            How many votes were removed, undone ones included.

        Raises:
            PrefkitError: nobody of that name is known.
        """
        from prefkit.votes.schema import accounts, password_tries

        with self.writing() as connection:
            known = sa.exists().where(annotators.c.annotator == annotator)
            invited = sa.exists().where(accounts.c.annotator == annotator)
            if not connection.scalar(sa.select(known | invited)):
                raise PrefkitError(
                    f"there is no annotator {annotator!r} in this store; 'prefkit votes stats' lists them"
                )
            touched = _answered_by(connection, annotator)
            mine = votes.c.annotator == annotator
            removed = connection.scalar(sa.select(sa.func.count()).select_from(votes).where(mine)) or 0
            # Undo rows first: they point to what they undo.
            while connection.execute(votes.delete().where(mine, ~_is_pointed_at())).rowcount:
                pass
            for table in (leases, exclusions, accounts, password_tries, annotators):
                connection.execute(table.delete().where(table.c.annotator == annotator))
            connection.execute(withdrawals.insert().values(votes_removed=removed, created_at=utc_now()))
            recount(connection, touched)
        return removed

    def withdrawals(self) -> pd.DataFrame:
        """Who took consent back is not kept; this is: created_at, votes_removed."""
        query = sa.select(withdrawals.c.created_at, withdrawals.c.votes_removed)
        return self._table(query.order_by(withdrawals.c.withdrawal_id))

    def secret(self, name: str) -> bytes:
        """A key of 32 random bytes that all servers of this store share, made when first asked for."""
        with self.reading() as connection:
            found = connection.scalar(sa.select(secrets.c.value).where(secrets.c.name == name))
        if found is None:
            with self.writing() as connection:
                found = connection.scalar(sa.select(secrets.c.value).where(secrets.c.name == name))
                if found is None:
                    found = os.urandom(32).hex()
                    connection.execute(secrets.insert().values(name=name, value=found))
        return bytes.fromhex(found)

    def _adjudications(self) -> list[dict[str, Any]]:
        decided = sa.select(verdicts).where(verdicts.c.kind == "adjudication", verdicts.c.lifted_at.is_(None))
        with self.reading() as connection:
            rows = connection.execute(decided.order_by(verdicts.c.created_at, verdicts.c.verdict_id)).mappings().all()
        return [
            {
                "vote_id": row["verdict_id"],
                "comparison_id": row["comparison_id"],
                "annotator": row["decided_by"],
                "criterion": row["criterion"],
                "repeat": 0,
                "choice": row["choice"],
                "left": "a",
                "comment": row["note"],
                "source": "human",
                "created_at": row["created_at"],
            }
            for row in rows
        ]

    def _frame(self, query: sa.Select[Any], more: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
        # The id breaks ties: votes of one ballot share their time.
        ordered = query.order_by(votes.c.created_at, votes.c.vote_id)
        with self.reading() as connection:
            rows = [dict(row) for row in connection.execute(ordered).mappings()]
        return pa.Table.from_pylist([*rows, *map(dict, more)], schema=VOTES.schema).to_pandas()

    def _table(self, query: sa.Select[Any]) -> pd.DataFrame:
        with self.reading() as connection:
            found = connection.execute(query)
            return pd.DataFrame(found.mappings().all(), columns=list(found.keys()))


def exclude(connection: sa.Connection, annotator: str, reason: str, by: str | None) -> None:
    """Records that an annotator is left out, inside the caller's transaction; an open decision stays as it is."""
    if exclusion_reason(connection, annotator) is None:
        row = {"annotator": annotator, "reason": reason, "created_at": utc_now(), "decided_by": by}
        connection.execute(exclusions.insert().values(row))
        recount(connection, _answered_by(connection, annotator))


def insert_votes(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Inserts the rows that are not there yet, inside the caller's transaction, and returns those.

    Raises:
        VoteConflict: see `VoteStore.record`.
    """
    new = unrecorded(connection, rows)
    if not new:
        return []
    _refuse_lost_targets(connection, new)
    _refuse_second_answers(connection, new)
    ensure_annotators(connection, {row["annotator"]: row["source"] for row in new})
    connection.execute(votes.insert(), new)
    recount(connection, {row["comparison_id"] for row in new})
    return new


def unrecorded(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, completed to all columns, that the store does not hold yet.

    Raises:
        VoteConflict: a `vote_id` is known with other content.
    """
    now = utc_now()  # one ballot, one time
    complete = [_complete(row, now) for row in rows]
    found: dict[str, Mapping[str, Any]] = {}
    for ids in chunks([row["vote_id"] for row in complete]):
        for old in connection.execute(sa.select(votes).where(votes.c.vote_id.in_(ids))).mappings():
            found[old["vote_id"]] = dict(old)
    new = []
    for row in complete:
        old_row = found.get(row["vote_id"])
        if old_row is None:
            found[row["vote_id"]] = row
            new.append(row)
            continue
        changed = [name for name in row if name != "created_at" and row[name] != old_row[name]]
        if changed:
            raise VoteConflict(
                f"vote {row['vote_id']} is already stored with another {', '.join(changed)}; use a new id"
            )
    return new


def ensure_annotators(connection: sa.Connection, sources: Mapping[str, str], details: str | None = None) -> None:
    """Registers the annotators that the store does not know yet."""
    known = set(connection.scalars(sa.select(annotators.c.annotator).where(annotators.c.annotator.in_(list(sources)))))
    rows = [
        {"annotator": name, "source": source, "details": details, "created_at": utc_now()}
        for name, source in sources.items()
        if name not in known
    ]
    if rows:
        connection.execute(annotators.insert(), rows)


def exclusion_reason(connection: sa.Connection, annotator: str) -> str | None:
    """Why the annotator is left out now, or None."""
    open_now = (exclusions.c.annotator == annotator) & exclusions.c.lifted_at.is_(None)
    return connection.scalar(sa.select(exclusions.c.reason).where(open_now))


def undo_row(vote: Mapping[str, Any]) -> dict[str, Any]:
    """The row that takes `vote` back. Its id follows from the vote's, so undoing twice is one undo."""
    kept = ("comparison_id", "annotator", "criterion", "repeat", "left", "source")
    return {
        "vote_id": content_id("undo", vote["vote_id"]),
        "supersedes": vote["vote_id"],
        "choice": None,
        **{name: vote[name] for name in kept},
    }


def _complete(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    unknown = set(row) - set(VOTES.schema.names)
    if unknown:
        raise ValueError(f"votes have no columns {sorted(unknown)}")
    complete = {name: row.get(name) for name in VOTES.schema.names}
    complete["repeat"] = complete["repeat"] or 0
    complete["created_at"] = complete["created_at"] or now
    return complete


_QUESTION = ("comparison_id", "annotator", "criterion", "repeat")


def _refuse_second_answers(connection: sa.Connection, new: Sequence[Mapping[str, Any]]) -> None:
    """Nobody answers a question twice: a second answer must replace the first."""
    replaced = {row["supersedes"] for row in new}
    answered: dict[tuple[Any, ...], str] = {}
    for ids in chunks(sorted({row["comparison_id"] for row in new})):
        newer = votes.alias("newer")
        standing = sa.select(votes.c.vote_id, *(votes.c[name] for name in _QUESTION)).where(
            votes.c.comparison_id.in_(ids),
            votes.c.annotator.in_({row["annotator"] for row in new}),
            votes.c.choice.is_not(None),
            ~sa.exists().where(newer.c.supersedes == votes.c.vote_id),
        )
        for old in connection.execute(standing).mappings():
            answered[tuple(old[name] for name in _QUESTION)] = old["vote_id"]
    for row in new:
        if row["choice"] is None:
            continue
        question = tuple(row[name] for name in _QUESTION)
        if answered.get(question) not in {None, *replaced}:
            raise VoteConflict(
                f"{row['annotator']} has already answered {row['criterion']} of comparison {row['comparison_id']}; "
                "undo that vote first"
            )
        answered[question] = row["vote_id"]


def _refuse_lost_targets(connection: sa.Connection, new: Sequence[Mapping[str, Any]]) -> None:
    """What a row supersedes must exist and must not be superseded yet."""
    targets = {row["supersedes"] for row in new} - {None}
    for ids in chunks(sorted(targets)):
        present = set(connection.scalars(sa.select(votes.c.vote_id).where(votes.c.vote_id.in_(ids))))
        taken = set(connection.scalars(sa.select(votes.c.supersedes).where(votes.c.supersedes.in_(ids))))
        for target in ids:
            if target not in present or target in taken:
                state = "already undone or replaced" if target in present else "not stored"
                raise VoteConflict(f"vote {target} cannot be replaced: it is {state}")


def _answered_by(connection: sa.Connection, annotator: str) -> set[str]:
    return set(connection.scalars(sa.select(votes.c.comparison_id).where(votes.c.annotator == annotator).distinct()))


def _is_pointed_at() -> sa.ColumnElement[bool]:
    newer = votes.alias("newer")
    return sa.exists().where(newer.c.supersedes == votes.c.vote_id)


def _full_url(url: str) -> str:
    """Names the driver where the URL does not: `postgresql://` and the old `postgres://` mean psycopg."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else url


def _engine(url: str) -> sa.Engine:
    # As many connections as a server has threads: none waits for another one's.
    pool = {"pool_size": 10, "max_overflow": 90}
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True, **pool)
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_SECONDS}, **pool)

    @sa.event.listens_for(engine, "connect")
    def connect(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # SQLAlchemy begins transactions below, not the driver
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Taking the write lock at once: a transaction that reads first and writes later could fail half-way.
        reading = connection.get_execution_options().get("prefkit_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _prepare(store: VoteStore, where: str) -> None:
    if store.engine.dialect.name == "sqlite":
        _write_ahead_log(store.engine)
    with store.writing() as connection:
        migrate(connection, where)


def _write_ahead_log(engine: sa.Engine) -> None:
    raw = engine.raw_connection()
    try:
        if raw.cursor().execute("PRAGMA journal_mode").fetchone()[0] != "wal":  # type: ignore[attr-defined]
            raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()
