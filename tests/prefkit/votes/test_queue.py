import multiprocessing
from collections import Counter
from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.queue import NotLeased, Queue
from prefkit.votes.sides import canonical_choice, left_side
from prefkit.votes.store import VoteStore, utc_now


def comparisons(count, target=1):
    return pd.DataFrame({"comparison_id": [f"q{n:03d}" for n in range(count)], "target_votes": target})


def ballot(task, annotator, choice="a"):
    return [
        {"vote_id": f"{annotator}-{task.comparison_id}-{criterion}", "comparison_id": task.comparison_id,
         "annotator": annotator, "criterion": criterion, "choice": choice, "left": task.left, "source": "human"}
        for criterion in CRITERIA
    ]  # fmt: skip


def answer_next(queue, annotator, choice="a"):
    (task,) = queue.lease(annotator)
    queue.answer(annotator, ballot(task, annotator, choice))
    return task.comparison_id


@pytest.fixture
def store(tmp_path):
    return VoteStore.open(tmp_path / "votes.sqlite")


def test_each_comparison_gets_its_votes_and_nobody_is_asked_twice(store):
    queue = Queue(store, comparisons(3, target=2))
    for annotator in ("ann", "bob"):
        assert [answer_next(queue, annotator) for _ in range(3)] == ["q000", "q001", "q002"]
        assert queue.lease(annotator) == []
    assert queue.lease("eve") == []


def test_a_lease_keeps_others_away_until_it_expires(store):
    queue = Queue(store, comparisons(2), lease_seconds=60)
    now = utc_now()
    assert queue.lease("ann", now=now)[0].comparison_id == "q000"
    assert queue.lease("bob", now=now)[0].comparison_id == "q001"
    assert queue.lease("eve", now=now) == []
    later = now + timedelta(seconds=61)
    assert queue.lease("eve", now=later)[0].comparison_id == "q000"


def test_a_reload_gives_the_same_comparison(store):
    queue = Queue(store, comparisons(5))
    first = queue.lease("ann")
    assert queue.lease("ann") == first and Queue(store, comparisons(5)).lease("ann") == first


def test_an_expired_lease_still_lets_its_holder_answer(store):
    queue = Queue(store, comparisons(1), lease_seconds=-1)
    (task,) = queue.lease("ann")
    queue.lease("bob")
    assert queue.answer("ann", ballot(task, "ann")) == 3
    assert queue.answer("ann", ballot(task, "ann")) == 0  # sent again: the answer got lost on its way


def test_a_vote_needs_a_lease(store):
    queue = Queue(store, comparisons(2))
    (task,) = queue.lease("ann")
    with pytest.raises(NotLeased):
        queue.answer("bob", ballot(task, "bob"))
    with pytest.raises(NotLeased):
        queue.answer("bob", ballot(task, "ann"))
    assert store.all_votes().empty


def test_a_skip_is_no_vote_but_is_not_asked_again(store):
    queue = Queue(store, comparisons(1))
    answer_next(queue, "ann", choice="skip")
    assert queue.lease("ann") == []
    assert answer_next(queue, "bob") == "q000"
    assert queue.lease("eve") == []


def test_undo_hands_the_comparison_back_first(store):
    queue = Queue(store, comparisons(3))
    answer_next(queue, "ann")
    queue.lease("ann")
    assert queue.previous("ann") == "q000"
    queue.undo("ann", "q000")
    queue.undo("ann", "q000")
    assert queue.previous("ann") is None and store.votes().empty
    (task,) = queue.lease("ann")
    assert task.comparison_id == "q000"
    again = [row | {"vote_id": row["vote_id"] + "-2"} for row in ballot(task, "ann", "b")]
    queue.answer("ann", again)
    assert set(store.votes()["choice"]) == {"b"} and len(store.all_votes()) == 9
    with pytest.raises(NotLeased):
        queue.undo("bob", "q000")


def test_progress_counts_what_is_left_for_this_annotator(store):
    queue = Queue(store, comparisons(4))
    answer_next(queue, "ann")
    answer_next(queue, "bob")
    queue.lease("bob")
    progress = queue.progress("ann")
    assert (progress.done, progress.total) == (1, 2)


def test_exclusion_reopens_what_it_leaves_short(store):
    queue = Queue(store, comparisons(1))
    answer_next(queue, "ann")
    store.exclude("ann", "too fast")
    assert answer_next(queue, "bob") == "q000"
    with pytest.raises(PrefkitError, match="excluded .too fast"):
        queue.lease("ann")


def vote_all(path, annotator, start):
    queue = Queue(VoteStore.open(path), comparisons(40, target=2))
    start.wait()
    while tasks := queue.lease(annotator, 3):
        for task in tasks:
            queue.answer(annotator, ballot(task, annotator))


def test_processes_racing_for_leases_leave_no_vote_lost_double_or_too_many(tmp_path):
    path = tmp_path / "votes.sqlite"
    VoteStore.open(path).close()
    context = multiprocessing.get_context("spawn")
    names = [f"ann{n}" for n in range(3)]
    start = context.Barrier(len(names))
    workers = [context.Process(target=vote_all, args=(path, name, start)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {worker.exitcode for worker in workers} == {0}
    votes = VoteStore.open(path).votes()
    per_question = Counter(zip(votes["comparison_id"], votes["criterion"], strict=True))
    assert len(per_question) == 40 * 3 and set(per_question.values()) == {2}
    assert not votes.duplicated(["comparison_id", "criterion", "annotator"]).any()


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(["left", "right"]))
def test_what_is_picked_on_the_screen_is_what_counts(annotator, comparison, picked):
    left = left_side(annotator, comparison)
    shown = {"left": left, "right": {"a": "b", "b": "a"}[left]}
    assert canonical_choice(picked, left) == shown[picked]
    assert canonical_choice("both_bad", left) == "both_bad"


def test_about_half_of_the_comparisons_are_swapped():
    lefts = Counter(left_side("ann", f"q{n}") for n in range(1000))
    assert 430 < lefts["a"] < 570
    assert any(left_side("ann", f"q{n}") != left_side("bob", f"q{n}") for n in range(20))
