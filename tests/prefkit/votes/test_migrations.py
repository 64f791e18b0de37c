"""An older store becomes a present one, with its votes; and what migrations make is what the code expects."""

import sqlite3
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from prefkit.errors import PrefkitError
from prefkit.tables import COMPARISONS
from prefkit.votes import migrations
from prefkit.votes.accounts import (
    MOST_TRIES,
    TRY_WINDOW,
    TooManyTries,
    by_contact,
    by_link,
    by_password,
    invite,
    list_accounts,
    revoke,
)
from prefkit.votes.export import export_votes, import_votes
from prefkit.votes.schema import metadata
from prefkit.votes.store import VoteConflict, VoteStore, utc_now
from prefkit.workspace import Workspace

# As the first prefkit wrote it.
OLD = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
INSERT INTO schema_version VALUES (1);
CREATE TABLE annotators (annotator TEXT NOT NULL PRIMARY KEY, source TEXT NOT NULL, details TEXT,
    created_at DATETIME NOT NULL);
CREATE TABLE votes (vote_id TEXT NOT NULL PRIMARY KEY, comparison_id TEXT NOT NULL,
    annotator TEXT NOT NULL REFERENCES annotators (annotator), criterion TEXT NOT NULL, repeat BIGINT NOT NULL,
    choice TEXT, "left" TEXT NOT NULL, confidence BIGINT, seconds DOUBLE, watched_a DOUBLE, watched_b DOUBLE,
    ranges TEXT, flags TEXT, skip_reason TEXT, comment TEXT, guidelines_version TEXT, source TEXT NOT NULL,
    supersedes TEXT UNIQUE REFERENCES votes (vote_id), created_at DATETIME NOT NULL);
CREATE TABLE leases (comparison_id TEXT NOT NULL, annotator TEXT NOT NULL REFERENCES annotators (annotator),
    leased_at DATETIME NOT NULL, expires_at DATETIME NOT NULL, PRIMARY KEY (comparison_id, annotator));
CREATE TABLE exclusions (exclusion_id INTEGER NOT NULL PRIMARY KEY,
    annotator TEXT NOT NULL REFERENCES annotators (annotator), reason TEXT NOT NULL, created_at DATETIME NOT NULL,
    lifted_at DATETIME);
INSERT INTO annotators VALUES ('ann', 'human', NULL, '2026-01-01 00:00:00');
INSERT INTO votes VALUES ('v1', 'q1', 'ann', 'overall', 0, 'b', 'a', NULL, 3.5, NULL, NULL, NULL, NULL, NULL, NULL,
    '1', 'human', NULL, '2026-01-01 00:00:00');
"""


def test_an_old_store_keeps_its_votes(tmp_path):
    with sqlite3.connect(tmp_path / "votes.sqlite") as old:
        old.executescript(OLD)
    old.close()
    for _ in range(2):
        store = VoteStore.open(tmp_path / "votes.sqlite")
        (row,) = store.votes().to_dict("records")
        assert (row["vote_id"], row["choice"], row["seconds"], row["left"]) == ("v1", "b", 3.5, "a")
        store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_steps_make_what_the_code_expects(kind, request, tmp_path):
    where = tmp_path / "votes.sqlite" if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    store = VoteStore.open(where)
    with store.reading() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
        names = set(sa.inspect(connection).get_table_names())
    store.close()
    assert found == [] and names == {*metadata.tables, "alembic_version"}
    (head,) = ScriptDirectory(migrations.__path__[0]).get_heads()
    assert head == migrations.LATEST


def test_votes_go_to_another_store_whole(tmp_path):
    first, second = Workspace.create(tmp_path / "one"), Workspace.create(tmp_path / "two")
    store = VoteStore.in_workspace(first)
    rows = [{"vote_id": f"v{n}", "comparison_id": f"q{n}", "annotator": "ann", "criterion": "overall", "choice": "a",
             "left": "b", "source": "human", "comment": "<i>x</i>"} for n in range(4)]  # fmt: skip
    store.record(rows)
    store.undo("v1")
    store.record([rows[1] | {"vote_id": "v1-again", "choice": "tie"}])
    assert export_votes(first, tmp_path / "all.parquet", history=True) == 6
    assert [import_votes(second, tmp_path / "all.parquet") for _ in range(2)] == [6, 0]
    other = VoteStore.in_workspace(second)
    assert other.all_votes().equals(store.all_votes()) and other.votes().equals(store.votes())
    export_votes(first, tmp_path / "live.parquet")
    with pytest.raises(PrefkitError, match="cannot be read as Parquet"):
        import_votes(second, __file__)
    first.append(COMPARISONS, [{"comparison_id": "q"}])
    with pytest.raises(PrefkitError, match="has no columns"):
        import_votes(second, next((first.root / "tables" / "comparisons").iterdir()))
    other.undo("v2")
    other.record([rows[2] | {"vote_id": "other"}])
    with pytest.raises(VoteConflict):
        import_votes(first, _exported(second, tmp_path))
    store.close()
    other.close()


def _exported(workspace, folder):
    export_votes(workspace, folder / "second.parquet")
    return folder / "second.parquet"


def test_accounts_keep_no_secret_and_let_in_whom_they_should(tmp_path):
    store = VoteStore.open(tmp_path / "votes.sqlite")
    name, link = invite(store, contact="Ann@Example.org", password="correct horse")
    assert by_link(store, link).annotator == by_contact(store, "ann@example.org").annotator == name
    assert by_password(store, name, "correct horse") and not by_password(store, name, "wrong horse")
    assert not by_password(store, "nobody", "correct horse") and not by_link(store, "x")
    for problem, arguments in {"at least 10": {"password": "short"}, "no role": {"role": "boss"},
                               "belongs to another": {"contact": "ann@example.org"}}.items():  # fmt: skip
        with pytest.raises(PrefkitError, match=problem):
            invite(store, "bob", **arguments)
    revoke(store, name)
    assert not by_link(store, link) and not by_password(store, name, "correct horse")
    assert list_accounts(store)["revoked_at"].notna().all()
    store.close()
    stored = b"".join(part.read_bytes() for part in tmp_path.glob("votes.sqlite*"))
    assert link.encode() not in stored and b"correct horse" not in stored


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_passwords_cannot_be_guessed_on_and_on(kind, request, tmp_path):
    where = tmp_path / "votes.sqlite" if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    store = VoteStore.open(where)
    now, minute = utc_now(), timedelta(minutes=1)
    for name in ("ann", "bob"):
        _, link = invite(store, name, password="correct horse")
    for wrong in range(MOST_TRIES - 1):
        assert by_password(store, "ann", f"wrong horse {wrong}", now=now) is None
    assert by_password(store, "ann", "correct horse", now=now)  # clears what was mistyped
    for name in ("ann", "nobody"):  # a name without an account is refused alike
        for wrong in range(MOST_TRIES):
            assert by_password(store, name, f"wrong horse {wrong}", now=now + wrong * minute / 10) is None
        for guess in ("wrong horse", "correct horse"):
            with pytest.raises(TooManyTries, match=f"too many wrong passwords for '{name}'; try again in 14 min"):
                by_password(store, name, guess, now=now + minute)
    assert by_password(store, "bob", "correct horse", now=now + minute) and by_link(store, link)
    assert by_password(store, "ann", "correct horse", now=now + TRY_WINDOW)  # the first try is forgotten
    store.close()
