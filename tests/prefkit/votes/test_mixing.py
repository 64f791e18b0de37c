"""Gold questions, repeats, qualification, priorities, verdicts: what a lead steers."""

import pandas as pd
import pytest

from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.progress import hours, prioritise, progress
from prefkit.votes.quality import per_annotator
from prefkit.votes.queue import Queue, QueueRules
from prefkit.votes.store import VoteStore
from prefkit.votes.verdicts import decide, lift, read_verdicts


def comparisons(train=40, gold=6):
    names = [f"q{n:02d}" for n in range(train)] + [f"g{n}" for n in range(gold)]
    purposes = ["train"] * train + ["gold"] * gold
    return pd.DataFrame({"comparison_id": names, "purpose": purposes, "target_votes": 2})


@pytest.fixture
def store(tmp_path):
    opened = VoteStore.open(tmp_path / "votes.sqlite")
    for n in range(6):
        decide(opened, f"g{n}", dict.fromkeys(CRITERIA, "a"), kind="gold", by="lead")
    yield opened
    opened.close()


def answer(queue, annotator, choice="a", most=1000):
    """Answers up to `most` and returns what was asked, as (comparison, repeat)."""
    asked = []
    while len(asked) < most and (tasks := queue.lease(annotator, 2)):
        task = tasks[0]
        rows = [{"vote_id": f"{annotator}-{len(asked)}-{task.comparison_id}-{task.repeat}-{criterion}",
                 "comparison_id": task.comparison_id, "annotator": annotator, "criterion": criterion,
                 "repeat": task.repeat, "choice": choice, "left": task.left, "source": "human"}
                for criterion in CRITERIA]  # fmt: skip
        queue.answer(annotator, rows)
        asked.append((task.comparison_id, task.repeat))
    return asked


def test_gold_and_repeats_are_mixed_in_marked_and_do_not_count(store):
    queue = Queue(store, comparisons(), rules=QueueRules(gold_rate=0.2, repeat_rate=0.2, repeat_gap=5))
    asked = answer(queue, "ann")
    assert len(asked) == len(set(asked)), "a question was asked twice without a mark"
    repeats = [name for name, repeat in asked if repeat]
    assert 2 <= len(repeats) <= 15 and sum(name.startswith("g") for name, _ in asked) >= 3
    for name in repeats:
        assert asked.index((name, 1)) - asked.index((name, 0)) > 5 and not name.startswith("g")
    assert {name for name, _ in asked if name.startswith("q")} == set(comparisons(gold=0)["comparison_id"])
    found = progress(store)["train"]
    assert (found.done, found.wanted) == (0, 40), "a repeat counted as a second annotator's answer"
    quality = per_annotator(store.cast_votes(), read_verdicts(store, "gold")).iloc[0]
    assert quality["gold"] == 1.0 and quality["consistency"] == 1.0 and quality["repeats"] == 3 * len(repeats)
    assert hours(store).iloc[0]["ballots"] == len(asked)


def test_who_fails_the_qualification_round_is_out_until_a_lead_says_otherwise(store):
    queue = Queue(store, comparisons(), rules=QueueRules(qualification=3))
    assert [name for name, _ in answer(queue, "good", most=5)] == ["g0", "g1", "g2", "q00", "q01"]
    with pytest.raises(PrefkitError, match="qualification round: 0%"):
        answer(queue, "bad", choice="b")
    assert set(store.votes()["annotator"]) == {"good"}
    store.readmit("bad")
    assert answer(queue, "bad", choice="b", most=2)[0] == ("q00", 0)
    assert len(store.exclusions()) == 1


def test_priorities_come_first(store):
    queue = Queue(store, comparisons())
    prioritise(store, comparisons(), ["q07"], 5)
    assert queue.lease("ann")[0].comparison_id == "q07"
    with pytest.raises(PrefkitError, match="no comparison 'zz'"):
        prioritise(store, comparisons(), ["zz"], 5)


def test_a_verdict_ends_the_asking_stands_for_the_votes_and_can_be_lifted(store):
    queue = Queue(store, comparisons(train=1, gold=0))
    answer(queue, "ann", "a")
    decide(store, "q00", {"overall": "b"}, kind="adjudication", by="boss", note="the mouth lags")
    assert queue.lease("bob") == []
    votes = store.votes().set_index("criterion")
    assert votes.loc["overall", ["choice", "annotator", "comment"]].tolist() == ["b", "boss", "the mouth lags"]
    assert votes.loc["expression", "choice"] == "a" and len(votes) == 3
    assert set(store.cast_votes()["choice"]) == {"a"}
    assert lift(store, "q00", kind="adjudication") == 1
    assert set(store.votes()["choice"]) == {"a"} and queue.lease("bob")
    with pytest.raises(PrefkitError, match="expected one of a, b"):
        decide(store, "q00", {"overall": "left"}, kind="gold", by="boss")
