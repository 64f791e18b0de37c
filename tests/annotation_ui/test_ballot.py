import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_ui.ballot import parse_ballot
from annotation_ui.guidelines import parse_guidelines, read_guidelines
from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES, CRITERIA
from prefkit.votes.accounts import check_pseudonym
from prefkit.votes.sides import left_side


def body(**more):
    posted = {
        "comparison_id": "q1",
        "left": left_side("ann", "q1"),
        "guidelines_version": "1",
        "seconds": 2.5,
        "watched_left": 1.0,
        "watched_right": 2.0,
        "votes": [{"vote_id": f"{n:032x}", "criterion": name, "choice": "left"} for n, name in enumerate(CRITERIA)],
    }
    return posted | more


def test_left_and_right_become_a_and_b():
    swapped = next(f"q{n}" for n in range(99) if left_side("ann", f"q{n}") == "b")
    straight = next(f"q{n}" for n in range(99) if left_side("ann", f"q{n}") == "a")
    for comparison, left in ((swapped, "b"), (straight, "a")):
        row = parse_ballot(
            body(comparison_id=comparison, left=left, ranges=[{"clip": "left", "start": 0.5, "end": 1}]), "ann"
        ).rows[0]
        assert json.loads(row["ranges"]) == [{"clip": left, "start": 0.5, "end": 1.0}]
        assert (row["choice"], row["left"], row["source"]) == (left, left, "human")
        assert row[f"watched_{left}"] == 1.0 and {row["watched_a"], row["watched_b"]} == {1.0, 2.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"repeat": -1},
        {"repeat": 1.5},
        {"confidence": 4},
        {"confidence": True},
        {"comment": "x" * 3000},
        {"flags": ["boring"]},
        {"flags": "broken"},
        {"ranges": [{"clip": "a", "start": 0, "end": 1}]},
        {"ranges": [{"clip": "left", "start": 2, "end": 1}]},
        {"ranges": [{"clip": "left", "start": 0, "end": 1}] * 50},
        {"seeks": "many"},
        {"left": "c"},
        {"left": {"a": "b", "b": "a"}[left_side("ann", "q1")]},
        {"comparison_id": 3},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"watched_left": True},
        {"skip_reason": "x" * 3000},
        {"guidelines_version": None},
        {"votes": "none"},
        {"votes": body()["votes"][:2]},
        {"votes": [vote | {"criterion": "overall"} for vote in body()["votes"]]},
        {"votes": [vote | {"choice": "a"} for vote in body()["votes"]]},
        {"votes": [vote | {"vote_id": "1"} for vote in body()["votes"]]},
    ],
)
def test_a_ballot_that_is_not_what_the_page_posts_is_refused(wrong):
    with pytest.raises(PrefkitError):
        parse_ballot(body(**wrong), "ann")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["vote_id", "criterion"]), inner),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(json_values, st.sampled_from([*body()]))
def test_whatever_is_posted_gives_votes_or_a_sentence(value, name):
    for posted in (value, body(**{name: value})):
        try:
            rows = parse_ballot(posted, "ann").rows
        except PrefkitError:
            continue
        assert {row["choice"] for row in rows} <= set(CHOICES) and len(rows) == len(CRITERIA)


def test_names():
    assert check_pseudonym("robin-7") == "robin-7"
    with pytest.raises(PrefkitError, match="simulated"):
        check_pseudonym("simulated-0-1")
    for name in ("", "a b", "x" * 41, "../up", "<script>"):
        with pytest.raises(PrefkitError, match="no annotator name"):
            check_pseudonym(name)


def test_guidelines_have_a_version_and_their_markup_stays_text():
    assert read_guidelines().version and "Version:" not in read_guidelines().text
    assert "<script>" not in parse_guidelines("# T\n\nVersion: 2\n\n<script>alert(1)</script>\n").html
    with pytest.raises(PrefkitError, match="no version"):
        parse_guidelines("# T\n")
