import multiprocessing
import signal
import subprocess
import sys

import pyarrow as pa
import pytest
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.tables import VOTES
from prefkit.votes.store import VoteConflict, VoteStore


def vote(vote_id="v1", comparison="q1", annotator="ann", criterion="overall", **more):
    row = {"vote_id": vote_id, "comparison_id": comparison, "annotator": annotator, "criterion": criterion}
    return row | {"choice": "a", "left": "b", "source": "human", "seconds": 3.25} | more


@pytest.fixture
def store(tmp_path):
    return VoteStore.open(tmp_path / "votes.sqlite")


def test_a_vote_sent_twice_counts_once(store):
    assert store.record([vote()]) == 1
    assert store.record([vote()]) == 0
    assert store.record([vote(), vote("v2", criterion="expression")]) == 1
    assert list(store.votes()["vote_id"]) == ["v1", "v2"]


def test_the_same_id_with_another_body_is_refused_and_nothing_is_stored(store):
    store.record([vote()])
    with pytest.raises(VoteConflict, match="another choice"):
        store.record([vote("v2", comparison="q2"), vote(choice="b")])
    assert list(store.all_votes()["vote_id"]) == ["v1"]


def test_a_second_answer_must_replace_the_first(store):
    store.record([vote()])
    with pytest.raises(VoteConflict, match="already answered overall"):
        store.record([vote("v2")])
    store.record([vote("v2", choice="tie", supersedes="v1")])
    assert store.votes()[["vote_id", "choice"]].values.tolist() == [["v2", "tie"]]
    with pytest.raises(VoteConflict, match="cannot be replaced"):
        store.record([vote("v3", supersedes="v1")])


def test_an_undo_is_a_row_and_opens_the_question_again(store):
    store.record([vote()])
    store.undo("v1")
    store.undo("v1")
    assert store.votes().empty
    rows = store.all_votes()
    assert list(rows["supersedes"].dropna()) == ["v1"] and len(rows) == 2
    store.record([vote("v2", choice="b")])
    assert list(store.votes()["choice"]) == ["b"]
    with pytest.raises(VoteConflict, match="no vote"):
        store.undo("never")


def test_votes_leave_in_the_shape_of_the_table(store):
    store.record([vote()])
    frame = store.votes()
    assert pa.Table.from_pandas(frame, schema=VOTES.schema, preserve_index=False).schema == VOTES.schema
    row = frame.iloc[0]
    assert (row["seconds"], row["repeat"], row["left"]) == (3.25, 0, "b")
    assert str(row["created_at"].tz) == "UTC"


def test_an_excluded_annotator_does_not_count_until_readmitted(store):
    store.record([vote(), vote("v2", annotator="bob")])
    store.exclude("ann", "votes too fast")
    assert list(store.votes()["annotator"]) == ["bob"] and len(store.all_votes()) == 2
    store.readmit("ann")
    assert len(store.votes()) == 2
    with pytest.raises(PrefkitError, match="no annotator 'nobody'"):
        store.exclude("nobody", "why")


def test_the_database_refuses_what_is_no_vote(store):
    with pytest.raises(sa.exc.IntegrityError):
        store.record([vote(choice="left")])
    with pytest.raises(sa.exc.IntegrityError):
        store.record([vote(choice=None)])
    with pytest.raises(ValueError, match="no columns"):
        store.record([vote(colour="red")])


def test_opening(tmp_path):
    with pytest.raises(PrefkitError, match="no votes were cast"):
        VoteStore.open(tmp_path / "none.sqlite", create=False)
    assert not (tmp_path / "none.sqlite").exists()

    (tmp_path / "text.sqlite").write_text("this is no database, but long enough to look at" * 100)
    with pytest.raises(PrefkitError, match="cannot be opened"):
        VoteStore.open(tmp_path / "text.sqlite")

    newer = VoteStore.open(tmp_path / "newer.sqlite")
    with newer.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(PrefkitError, match="schema version 0099.*upgrade"):
        VoteStore.open(tmp_path / "newer.sqlite")


def test_every_connection_syncs_fully_and_checks_foreign_keys(store):
    with store.reading() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                   ("journal_mode", "synchronous", "foreign_keys")}  # fmt: skip
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def open_and_vote(path, number, start):
    start.wait()
    VoteStore.open(path).record([vote(f"v{number}", comparison=f"q{number}", annotator=f"ann{number}")])


def test_processes_that_make_the_store_at_once_all_get_their_votes_in(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=open_and_vote, args=(tmp_path / "v.sqlite", n, start)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(VoteStore.open(tmp_path / "v.sqlite").votes()) == 2


VOTE_UNTIL_KILLED = """
import sys
from prefkit.votes.store import VoteStore
store = VoteStore.open(sys.argv[1])
for number in range(100_000):
    store.record([{"vote_id": str(number), "comparison_id": str(number), "annotator": "ann", "criterion": "overall",
                   "choice": "a", "left": "a", "source": "human"}])
    print(number, flush=True)
"""


def test_kill_9_loses_no_acknowledged_vote(tmp_path):
    command = [sys.executable, "-c", VOTE_UNTIL_KILLED, str(tmp_path / "v.sqlite")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as voter:
        acknowledged = [voter.stdout.readline() for _ in range(20)]
        voter.send_signal(signal.SIGKILL)
        acknowledged += voter.stdout.readlines()
    stored = set(VoteStore.open(tmp_path / "v.sqlite").votes()["vote_id"])
    whole_lines = {line.strip() for line in acknowledged if line.endswith("\n")}
    assert len(whole_lines) >= 20 and whole_lines <= stored
