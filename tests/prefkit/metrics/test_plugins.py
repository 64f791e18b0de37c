"""Metrics of other packages, by entry point or by name; the example is the one that CONTRIBUTING.md shows."""

import importlib.metadata
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.media import write_clip
from prefkit.metrics import catalogue
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, SCORES
from prefkit.workspace import Workspace

EXAMPLE = Path(__file__).with_name("example_metric.py")


@pytest.fixture
def installed(monkeypatch):
    """Offers objects under entry points, as installed packages would."""

    def install(**entries: str) -> None:
        offered = [importlib.metadata.EntryPoint(name, value, "prefkit.metrics") for name, value in entries.items()]
        monkeypatch.setattr("prefkit.plugins.entry_points", lambda group: offered)
        catalogue._offered.cache_clear()

    monkeypatch.syspath_prepend(EXAMPLE.parent)
    yield install
    monkeypatch.undo()
    catalogue._offered.cache_clear()
    sys.modules.pop("example_metric", None)


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    stripes = np.zeros((4, 32, 32, 3), np.uint8)
    stripes[:, :, ::8] = 200
    write_clip(workspace.path("clips/a.mp4"), stripes, 25)
    workspace.append(CANDIDATES, [{"candidate_id": "a", "condition_id": "c", "clip": "clips/a.mp4"}])
    return workspace


def test_an_installed_metric_is_listed_and_scored_like_any_other(installed, workspace):
    installed(sharp="example_metric:METRIC")
    assert "sharpness" in {row["name"] for row in catalogue.describe_metrics()}
    assert score_candidates(workspace, ["sharpness", "flicker"])["scored"] == 2
    (row,) = [row for row in workspace.rows(SCORES) if row["metric"] == "sharpness"]
    assert row["value"] > 10 and row["metric_version"] == "1"


def test_a_metric_can_be_named_by_its_module(installed, workspace):
    installed()
    assert score_candidates(workspace, ["example_metric:METRIC"])["scored"] == 1


def test_what_is_no_metric_or_has_a_taken_name_is_one_sentence(installed):
    installed(odd="example_metric:sharpness")
    with pytest.raises(PrefkitError, match="expected a prefkit.metrics.metric.Metric"):
        catalogue.known_metrics()
    installed(one="example_metric:METRIC", two="example_metric:METRIC")
    with pytest.raises(PrefkitError, match="two packages offer a metric called 'sharpness'"):
        catalogue.known_metrics()
    installed(gone="no_such_module:METRIC")
    with pytest.raises(PrefkitError, match="install or correct it"):
        catalogue.known_metrics()


def test_contributing_shows_the_example_as_it_is():
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    shown = next(block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "METRIC = " in block)
    code = EXAMPLE.read_text().split('"""', 2)[2]
    assert shown.split() == code.split()
