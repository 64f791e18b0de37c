"""Fifty annotators at once, on SQLite and on PostgreSQL: no vote lost, none double, none too many."""

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore

ANNOTATORS, PER_COMPARISON = 50, 2


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    return tmp_path / "votes.sqlite" if request.param == "sqlite" else request.getfixturevalue("empty_postgres")


@pytest.fixture
def opened(where):
    """Opens the store as often as asked, as several servers would, and closes all in the end."""
    stores = []

    def another():
        stores.append(VoteStore.open(where))
        return stores[-1]

    yield another
    for store in stores:
        store.close()


def make_comparisons(count):
    rows = {"comparison_id": [f"q{n:05d}" for n in range(count)], "target_votes": PER_COMPARISON, "purpose": "train"}
    return pd.DataFrame(rows)


def vote_until_done(queue, name, acknowledged, most=None):
    done = 0
    while tasks := queue.lease(name, 2):
        task = tasks[0]
        rows = [
            {"vote_id": uuid.uuid4().hex, "comparison_id": task.comparison_id, "annotator": name,
             "criterion": criterion, "choice": "a", "left": task.left, "source": "human"}
            for criterion in CRITERIA
        ]  # fmt: skip
        assert queue.answer(name, rows) == len(CRITERIA)
        assert queue.answer(name, rows) == 0  # sent twice
        acknowledged.extend(row["vote_id"] for row in rows)
        done += 1
        if done == most:
            return


@pytest.mark.timeout(900)
def test_fifty_annotators_on_one_store(opened):
    comparisons = make_comparisons(300)
    # Two servers: each has connections of its own.
    queues = [Queue(opened(), comparisons) for _ in range(2)]
    acknowledged: list[str] = []
    together = threading.Barrier(ANNOTATORS)

    def annotator(number):
        together.wait()
        vote_until_done(queues[number % 2], f"ann{number:02d}", acknowledged)

    with ThreadPoolExecutor(ANNOTATORS) as pool:
        list(pool.map(annotator, range(ANNOTATORS)))
    store = queues[0].store
    votes = store.votes()
    assert sorted(votes["vote_id"]) == sorted(acknowledged), "a vote was lost, or one nobody cast is there"
    asked = Counter(zip(votes["comparison_id"], votes["criterion"], strict=True))
    assert set(asked.values()) == {PER_COMPARISON} and len(asked) == 300 * len(CRITERIA)
    assert not votes.duplicated(["comparison_id", "criterion", "annotator"]).any()


def test_both_databases_say_the_same(opened):
    """Undo, exclusion, readmission, withdrawal, a newer schema: not only counting."""
    store = opened()
    queue = Queue(store, make_comparisons(3))
    acknowledged: list[str] = []
    for name in ("ann", "bob"):
        vote_until_done(queue, name, acknowledged, most=3)
    assert queue.lease("eve", 2) == []
    queue.undo("ann", queue.previous("ann"))
    store.exclude("bob", "too fast", by="lead")
    assert len(queue.lease("eve", 3)) == 3
    store.readmit("bob")
    assert len(store.votes()) == 5 * len(CRITERIA)
    assert store.withdraw("bob") == 3 * len(CRITERIA)
    assert set(store.all_votes()["annotator"]) == {"ann"} and len(store.withdrawals()) == 1
    with pytest.raises(PrefkitError, match="no annotator 'bob'"):
        store.withdraw("bob")
    assert opened().votes().equals(store.votes())
