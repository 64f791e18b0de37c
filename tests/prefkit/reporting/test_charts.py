"""Charts: round axes, nothing outside the picture, verdicts that follow the interval."""

import re
import xml.dom.minidom

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.reporting.charts import (
    HEIGHT,
    WIDTH,
    exact,
    forest_plot,
    line_chart,
    number,
    running_mean,
    ticks,
    win_verdict,
)

values = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


def result(metric="sync_c", rate=0.7, low=0.6, high=0.8):
    return {"metric": metric, "win_rate": rate, "win_rate_low": low, "win_rate_high": high}


@settings(deadline=None, max_examples=30)
@given(values, values, st.integers(3, 8))
def test_ticks_span_the_values_in_few_even_steps(low, high, about):
    low, high = min(low, high), max(low, high)
    marks = ticks(low, high, about)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert 2 <= len(marks) <= about + 3
    steps = [second - first for first, second in zip(marks, marks[1:], strict=False)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10**6), values), min_size=1, max_size=120, unique_by=lambda point: point[0]))
def test_lines_stay_inside_the_picture(points):
    svg = str(line_chart({"training <&>": sorted(points), "held out": sorted(points)[:1]}, reference=0.5))
    xml.dom.minidom.parseString(svg)
    for polyline in re.findall(r'points="([^"]*)"', svg):
        for pair in polyline.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT


def test_values_that_are_not_finite_leave_a_gap_not_a_broken_picture():
    svg = str(line_chart({"loss": [(0, 1.0), (1, float("nan")), (2, 3.0)]}))
    assert "nan" not in svg and svg.count("<circle") == 2
    assert "no values" in str(line_chart({"loss": [(0, float("inf"))]}))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.9, "better"),
        (0.1, 0.49, "worse"),
        (0.4, 0.6, "undecided"),
        (0.5, 0.9, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_the_verdict_follows_the_interval(low, high, verdict):
    row = result(low=low, high=high)
    assert win_verdict(row) == verdict
    assert f'class="mean {verdict}"' in str(forest_plot([row]))


def test_the_forest_leaves_out_what_has_no_win_rate():
    svg = str(forest_plot([result("<sync>"), result("head_speed", None, None, None)]))
    xml.dom.minidom.parseString(svg)
    assert "&lt;sync&gt;" in svg and "head_speed" not in svg
    assert "no metric" in str(forest_plot([]))


def test_numbers_for_people():
    assert [number(value) for value in (1.0, -0.01234, 1234567.0, 0.0, None, float("nan"))] == [
        "1.00",
        "−0.0123",
        "1\u202f234\u202f567",
        "0",
        "–",
        "–",
    ]
    assert [exact(value) for value in (2160, 0.25, -1.0, 10_000.0)] == ["2\u202f160", "0.25", "−1", "10\u202f000"]


def test_running_mean_looks_back_only():
    assert running_mean([(0, 1.0), (1, 3.0), (2, 5.0)], 2) == [(0, 1.0), (1, 2.0), (2, 4.0)]
