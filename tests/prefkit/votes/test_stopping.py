"""A comparison is asked no further than its votes need."""

from collections import Counter
from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.tables import CRITERIA
from prefkit.votes.questions import answers_wanted
from prefkit.votes.queue import Queue
from prefkit.votes.store import VoteStore, utc_now


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ({}, 2),
        ({"a": 1}, 1),
        ({"a": 2}, 0),
        ({"a": 2, "b": 1}, 1),
        ({"a": 3, "b": 1, "tie": 1}, 0),
        ({"tie": 2}, 0),
        ({"a": 2, "tie": 2}, 1),
    ],
)
def test_an_answer_has_to_lead_every_other_by_the_margin(counts, wanted):
    assert answers_wanted(5, 2, sum(counts.values()), [counts] if counts else []) == wanted


def test_the_slowest_criterion_decides_and_a_lead_settles_it():
    assert answers_wanted(9, 2, 2, [{"a": 2}, {"b": 2}]) == 0
    assert answers_wanted(9, 2, 3, [{"a": 3}, {"a": 2, "b": 1}]) == 1
    assert answers_wanted(9, None, 3, [{"a": 3}]) == 6
    assert answers_wanted(9, 2, 0, [], decided=True) == 0


@given(st.integers(1, 9), st.integers(1, 4), st.lists(st.sampled_from(["a", "b", "tie"]), max_size=12))
def test_no_more_are_asked_at_once_than_could_end_it(target, margin, said):
    """With `wanted` more answers alike the comparison may be decided; with one fewer it never is."""
    wanted = answers_wanted(target, margin, len(said), [Counter(said)] if said else [])
    assert 0 <= wanted <= max(0, target - len(said))
    if wanted and len(said) + wanted < target:
        leader = max(set(said), key=said.count) if said else "a"
        assert answers_wanted(target, margin, len(said) + wanted, [Counter(said + [leader] * wanted)]) == 0
        assert answers_wanted(target, margin, len(said) + wanted - 1, [Counter(said + [leader] * (wanted - 1))]) > 0


def answer(queue, annotator, choices):
    """Answers the next comparison; one choice a criterion. Returns whether there was one."""
    tasks = queue.lease(annotator)
    for task in tasks:
        queue.answer(
            annotator,
            [
                {"vote_id": f"{annotator}-{task.comparison_id}-{criterion}", "comparison_id": task.comparison_id,
                 "annotator": annotator, "criterion": criterion, "choice": choice, "left": task.left,
                 "source": "human"}
                for criterion, choice in zip(CRITERIA, choices, strict=True)
            ],
        )  # fmt: skip
    return bool(tasks)


def queue_of(tmp_path, margin, target=5):
    rows = {"comparison_id": ["q"], "target_votes": [target], "stop_margin": pd.array([margin], dtype="Int64")}
    return Queue(VoteStore.open(tmp_path / "votes.sqlite"), pd.DataFrame(rows))


def test_the_queue_stops_when_every_criterion_is_decided(tmp_path):
    queue = queue_of(tmp_path, margin=2)
    assert answer(queue, "ann", "aaa")
    assert answer(queue, "bob", "aab")
    assert answer(queue, "cy", "aaa")  # 2 : 1 on the last criterion
    assert answer(queue, "di", "bba")  # 3 : 1 on all of them
    assert not answer(queue, "eve", "aaa")
    assert queue.progress("eve").total == 0


def test_the_target_is_the_most_that_is_asked(tmp_path):
    queue = queue_of(tmp_path, margin=2, target=3)
    assert all(answer(queue, name, choice * 3) for name, choice in [("ann", "a"), ("bob", "b"), ("cy", "a")])
    assert not answer(queue, "di", "aaa")


def test_an_undo_opens_the_comparison_again(tmp_path):
    queue = queue_of(tmp_path, margin=1)
    assert answer(queue, "ann", "aaa")
    assert not queue.lease("bob")
    queue.undo("ann", "q")
    assert not queue.lease("bob"), "ann has it in hand again, and one answer can end it"
    assert queue.lease("bob", now=utc_now() + timedelta(hours=1))


def test_without_a_margin_every_vote_is_asked_for(tmp_path):
    queue = queue_of(tmp_path, margin=pd.NA, target=2)
    assert answer(queue, "ann", "aaa")
    assert answer(queue, "bob", "aaa")
    assert not answer(queue, "cy", "aaa")
