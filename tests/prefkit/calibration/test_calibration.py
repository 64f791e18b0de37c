"""Every injected fault moves its metrics as it must, and the page says so."""

import re

import pytest

from prefkit.calibration.curves import FAULTS, Curve, calibrate, has_shape
from prefkit.calibration.report import write_calibration


@pytest.fixture(scope="module")
def curves():
    return calibrate(portraits=2)


@pytest.mark.parametrize(("fault", "metric"), [(fault.name, metric) for fault in FAULTS for metric in fault.expected])
def test_the_metric_follows_the_fault(curves, fault, metric):
    (curve,) = [curve for curve in curves if (curve.fault, curve.metric) == (fault, metric)]
    assert curve.error is None
    assert curve.holds, curve.means


def test_shares_equal_what_was_injected_and_blinks_are_counted(curves):
    means = {(curve.fault, curve.metric): curve for curve in curves}
    for name in ("frozen", "black"):
        curve = means[name, {"frozen": "freeze_ratio", "black": "black_ratio"}[name]]
        assert curve.means == pytest.approx(curve.levels, abs=0.02)
    silent = means["silent", "silent_ratio"]  # speech has pauses of its own
    assert silent.means[-1] >= 0.9
    blinks = means["blinks", "blink_rate"]
    assert [2 * rate for rate in blinks.means] == pytest.approx(blinks.levels, abs=0.51)


def test_shapes():
    assert has_shape((0, 1, 2), (0.0, 0.5, 3.0), "rises") and not has_shape((0, 1, 2), (0.0, 3.0, 0.5), "rises")
    assert has_shape((0, 1, 2), (3.0, 1.0, 1.0), "falls") and not has_shape((0, 1), (2.0, 2.0), "falls")
    assert has_shape((0, 4, 8), (1.0, 5.5, 8.0), "follows") and not has_shape((0, 8), (0.0, 6.0), "follows")
    assert has_shape((0, 8), (0.0, -8.5), "opposes")


def test_the_page_needs_no_network(tmp_path):
    curves = [
        Curve("jitter", "pixels", "flicker", "falls", (0, 1), (1.0, 0.9), True),
        Curve("jitter", "pixels", "av_lag", "rises", (0, 1), (float("nan"), 1.0), False, "no <sound>"),
    ]
    page = write_calibration(curves, tmp_path / "page.html", portraits=2).read_text()
    assert "1 of 2 curves" in page and "does not hold – no &lt;sound&gt;" in page and "<svg" in page
    assert not re.findall(r'(?:src|href)="', page)
