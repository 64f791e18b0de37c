"""A comparison is asked no further than its votes need."""

import pandas as pd
import pytest

from prefkit.tables import CRITERIA
from prefkit.votes.queue import Queue
from prefkit.votes.stopping import decided_on_all, is_decided
from prefkit.votes.store import VoteStore


@pytest.mark.parametrize(
    ("counts", "decided"),
    [
        ({}, False),
        ({"a": 1}, False),
        ({"a": 2}, True),
        ({"a": 2, "b": 1}, False),
        ({"a": 3, "b": 1, "tie": 1}, True),
        ({"tie": 2}, True),
        ({"a": 2, "tie": 2}, False),
        ({"a": 1, "skip": 5}, False),
    ],
)
def test_an_answer_has_to_lead_every_other_by_the_margin(counts, decided):
    assert is_decided(counts, 2) is decided


def test_the_slowest_criterion_decides():
    assert not decided_on_all([], 1)
    assert decided_on_all([("overall", "a", 2), ("expression", "b", 2)], 2)
    assert not decided_on_all([("overall", "a", 2), ("expression", "b", 2), ("expression", "a", 1)], 2)


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
    assert queue.lease("bob")


def test_without_a_margin_every_vote_is_asked_for(tmp_path):
    queue = queue_of(tmp_path, margin=pd.NA, target=2)
    assert answer(queue, "ann", "aaa")
    assert answer(queue, "bob", "aaa")
    assert not answer(queue, "cy", "aaa")
