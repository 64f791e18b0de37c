"""Which pairs a build makes of given votes: thresholds, criteria together, caps, duplicates, frame weights."""

import itertools
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import PrefkitError
from prefkit.pairs import build_pairs
from prefkit.pairs.marked_ranges import MARKED_WEIGHT, frame_weights
from prefkit.pairs.selecting import best_against_worst, capped, without_duplicates
from prefkit.tables import COMPARISONS


def pairs_of(summary):
    paths = sorted((Path(summary["path"]) / "pairs").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {(row["chosen_id"], row["rejected_id"], row["criterion"]): row for row in rows}


def test_thresholds_drop_by_probability_and_margin(small, cast):
    votes = cast(
        small,
        {("c0p", "c0q"): "aaaaa", ("c1p", "c1q"): "aaaat", ("c2p", "c2q"): "aaab", ("c3p", "c3q"): "bbbba"},
    )
    votes["choice"] = votes["choice"].replace("t", "tie")
    found = pairs_of(build_pairs(small, votes=votes, min_probability=0.8))
    assert {key[:2] for key in found} == {("c0p", "c0q"), ("c1p", "c1q"), ("c3q", "c3p")}
    assert found["c1p", "c1q", "overall"]["margin"] == pytest.approx(0.8)
    summary = build_pairs(small, votes=votes, min_margin=0.7, weights="margin")
    assert sorted(row["weight"] for row in pairs_of(summary).values()) == pytest.approx([0.8, 1.0])
    assert summary["funnel"][1]["dropped"] == {"margin below 0.7": 2}


def test_criteria_together(small, cast):
    votes = cast(
        small,
        {
            ("c0p", "c0q", "overall"): "aaa", ("c0p", "c0q", "expression"): "aab",
            ("c1p", "c1q", "overall"): "aab", ("c1p", "c1q", "expression"): "bbb",
            ("c2p", "c2q", "overall"): "aaa",
            ("c3p", "c3q", "overall"): "bbb", ("c3p", "c3q", "expression"): "bbb",
        },
        criteria=("overall", "expression"),
    )  # fmt: skip
    agreed = build_pairs(small, votes=votes, combine="all")
    found = pairs_of(agreed)
    assert set(found) == {("c0p", "c0q", "all"), ("c3q", "c3p", "all")}
    assert found["c0p", "c0q", "all"]["preference"] == pytest.approx(2 / 3)  # the least sure of them
    assert agreed["funnel"][2]["dropped"] == {"a criterion without an answer": 1, "criteria disagree": 1}
    mean = pairs_of(build_pairs(small, votes=votes, combine="weighted", criterion_weights={"overall": 3}))
    assert mean["c0p", "c0q", "weighted"]["preference"] == pytest.approx((3 * 1 + 2 / 3) / 4)
    assert ("c1p", "c1q", "weighted") not in mean and len(mean) == 2  # 3 · 2/3 + 0 over 4 is one half: a tie
    with pytest.raises(PrefkitError, match="'expresion', which is no criterion here – did you mean 'expression'"):
        build_pairs(small, votes=votes, combine="weighted", criterion_weights={"expresion": 1})


def test_flagged_clips_are_out_where_half_of_the_annotators_say_so(small, cast):
    votes = cast(small, ("a", "a"))
    (first, second) = small.read(COMPARISONS)["comparison_id"][:2]
    one, both = votes["comparison_id"] == first, votes["comparison_id"] == second
    votes["flags"] = None
    votes.loc[one & (votes["annotator"] == "annotator 0"), "flags"] = '["broken"]'
    votes.loc[both, "flags"] = '["offensive"]'
    summary = build_pairs(small, votes=votes, dry_run=True)
    assert summary["funnel"][1]["dropped"] == {"flagged as broken": 1, "flagged as offensive": 1}
    with pytest.raises(PrefkitError, match="has the flags 'broken'; expected a JSON list"):
        build_pairs(small, votes=votes.assign(flags="broken"))


def test_marked_ranges_become_weights_of_both_clips(small, cast):
    votes = cast(small, ("a", "a"))
    (first, *_) = small.read(COMPARISONS)["comparison_id"]
    mine = (votes["comparison_id"] == first) & (votes["annotator"] == "annotator 1")
    votes["ranges"] = None
    votes.loc[mine, "ranges"] = json.dumps([{"clip": "b", "start": 0.0, "end": 0.08}])  # frames 0 and 1 of 5
    found = pairs_of(build_pairs(small, votes=votes))
    weights = found["c0p", "c0q", "overall"]["frame_weights"]
    assert weights == pytest.approx([2.5 / 1.6] * 2 + [1 / 1.6] * 3)  # half of two annotators: 1 + 3 / 2, mean 1.6
    assert found["c1p", "c1q", "overall"]["frame_weights"] is None
    with pytest.raises(PrefkitError, match="marked ranges"):
        build_pairs(small, votes=votes.assign(ranges='[{"start": 2, "end": 1}]'))


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)).map(sorted), max_size=3), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_frame_weights_have_mean_one_and_a_bounded_ratio(people, num_frames):
    weights = frame_weights(people, num_frames, 25.0)
    if weights is not None:
        assert len(weights) == num_frames and sum(weights) == pytest.approx(num_frames)
        assert max(weights) <= MARKED_WEIGHT * min(weights) * (1 + 1e-9)


def row(chosen, rejected, preference=0.8, condition="c", identity="i", criterion="overall", votes=3):
    return {
        "pair_id": f"{chosen}>{rejected}:{condition}:{criterion}", "chosen_id": chosen, "rejected_id": rejected,
        "preference": preference, "margin": 2 * preference - 1, "condition_id": condition, "identity": identity,
        "criterion": criterion, "num_votes": votes,
    }  # fmt: skip


def test_duplicates_by_content():
    rows = [
        row("a", "b", 0.7),
        row("A", "b", 0.9, condition="d"),
        row("b", "c"),
        row("c", "B", condition="d"),
        row("a", "A"),
    ]
    same = {"a": "1", "A": "1", "b": "2", "B": "2", "c": "3"}
    kept, dropped = without_duplicates(rows, same)
    assert [one["preference"] for one in kept] == [0.9]  # the surest of a > b; b > c and c > b say nothing
    assert dropped == {
        "both clips are the same file": 1, "the same two clips again": 1, "the same two clips, contradicting": 2,
    }  # fmt: skip


def test_best_against_worst_is_one_pair_per_condition():
    rows = [row("a", "b", 0.9), row("b", "c", 0.9), row("a", "c", 0.7), row("x", "y", condition="d")]
    kept, dropped = best_against_worst(rows)
    assert [(one["chosen_id"], one["rejected_id"]) for one in kept] == [("a", "c"), ("x", "y")]
    assert dropped == {"not the best against the worst clip": 2}
    kept, _ = best_against_worst(rows[:2])  # a and c were never compared: the widest gap that was
    assert len(kept) == 1


@settings(max_examples=50)
@given(st.permutations(range(8)), st.integers(1, 4))
def test_caps_keep_the_surest_in_any_order(order, limit):
    rows = [row(f"a{n}", "b", 0.5 + n / 20, condition=f"c{n % 2}", identity=None if n == 7 else "i") for n in range(8)]
    kept, dropped = capped([rows[n] for n in order], "identity", limit)
    preferences = sorted(one["preference"] for one in kept if one["identity"])
    assert preferences == [one["preference"] for one in rows[:7]][-limit:]
    assert len(kept) == limit + 1 and dropped == {f"more than {limit} of one identity": 7 - limit}


def test_options_out_of_range_are_a_sentence(small, cast):
    votes = cast(small, ("a",))
    for options, sentence in [
        ({"combine": "wieghted"}, "did you mean 'weighted'"),
        ({"select": "best-wrst"}, "did you mean 'best-worst'"),
        ({"method": "elo"}, "there is no method 'elo'"),
        ({"weights": "marginal"}, "did you mean 'margin'"),
        ({"min_probability": 0.4}, "from 0.5 to 1"),
        ({"min_margin": 2}, "from 0 to 1"),
        ({"max_per_condition": 0}, "at least 1"),
        ({"criterion_weights": {"overall": 1}}, "only matter with combine='weighted'"),
        ({"combine": "weighted", "criterion_weights": {"overall": -1}}, "above 0"),
        ({"criteria": []}, "no criterion is named"),
    ]:
        with pytest.raises(PrefkitError, match=sentence):
            build_pairs(small, votes=votes, **options)
    assert not small.path("pairs").exists()


def test_a_dry_run_writes_nothing_and_counts_the_same(small, cast):
    votes = cast(small, ("a", "a"))
    before = sorted(path for path in small.root.rglob("*"))
    dry = build_pairs(small, votes=votes, dry_run=True, max_per_identity=1)
    assert dry["path"] is None and sorted(small.root.rglob("*")) == before
    real = build_pairs(small, votes=votes, max_per_identity=1)
    assert {name: real[name] for name in ("pairs", "criteria", "sources", "funnel")} == {
        name: dry[name] for name in ("pairs", "criteria", "sources", "funnel")
    }


def test_one_annotator_is_said(small, cast):
    assert build_pairs(small, votes=cast(small, ("a",)), dry_run=True)["warnings"] == [
        "All votes are by one annotator, so nobody knows whether others would agree."
    ]


def test_bradley_terry_can_decide(tmp_path, make_workspace, cast):
    workspace = make_workspace(tmp_path / "w", (4, 4))
    votes = cast(workspace, ("a", "a", "a", "b"))
    found = pairs_of(build_pairs(workspace, votes=votes, method="bradley-terry"))
    assert len(found) == 12
    assert all(0.5 < one["preference"] < 1 for one in found.values())
    # further apart in the order p q r s, further apart in preference
    assert found["c0p", "c0s", "overall"]["preference"] > found["c0p", "c0q", "overall"]["preference"]


def test_votes_in_any_order_or_parts_are_one_dataset(tmp_path_factory, make_workspace, cast):
    """Byte for byte in all tables: orders, parts that overlap, copies that differ in a detail, a rerun."""
    root = tmp_path_factory.mktemp("order")
    workspace = make_workspace(root / "w", (2, 3))
    votes = cast(workspace, ("a", "b", "a", "tie", "both_bad"), criteria=("overall", "expression"))
    votes["seconds"] = [float(index) for index in range(len(votes))]
    copy = votes.iloc[:3].assign(seconds=99.0)  # sent twice, with another time on the clock
    everything = pd.concat([votes, copy], ignore_index=True)
    reference = tables_of(build_pairs(workspace, root / "reference", votes=everything))
    names = itertools.count()

    @settings(max_examples=8, deadline=None)
    @given(st.permutations(range(len(everything))), st.integers(1, len(everything) - 1))
    def check(order, cut):
        shuffled = everything.iloc[list(order)]
        parts = pd.concat([shuffled.iloc[:cut], shuffled.iloc[cut:]])
        again = build_pairs(workspace, root / f"again {next(names)}", votes=parts)
        assert tables_of(again) == reference

    check()


def tables_of(summary):
    folder = Path(summary["path"])
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}
