"""The list of metrics is whole and light."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from prefkit.errors import PrefkitError
from prefkit.metrics.catalogue import FAMILIES, METRICS, describe_metrics, find_metrics, row_version


def test_names_are_unique_and_every_metric_says_what_it_is() -> None:
    assert len(METRICS) == sum(len(family.METRICS) for family in FAMILIES)
    for metric in METRICS.values():
        assert metric.direction in ("higher", "lower", "band")
        assert metric.version and metric.source and metric.description and metric.needs
    assert [row["name"] for row in describe_metrics()] == list(METRICS)


def test_the_list_needs_neither_torch_nor_opencv() -> None:
    code = (
        "import sys; from prefkit.metrics.catalogue import describe_metrics; import prefkit.scoring; "
        "sys.modules.update(torch=None); describe_metrics(); "
        "print([name for name in ('torch', 'cv2', 'scipy') if sys.modules.get(name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cv2" else object())
    lacks = {row["name"]: row["lacks"] for row in describe_metrics()}
    assert "cv2 is not installed" in lacks["dynamic_degree"] and lacks["flicker"] is None


def test_unknown_and_missing_names() -> None:
    assert [metric.name for metric in find_metrics(["flicker", "sync_c", "flicker"])] == ["flicker", "sync_c"]
    assert len(find_metrics()) == len(METRICS)
    with pytest.raises(PrefkitError, match="did you mean 'freeze_ratio'"):
        find_metrics(["freze_ratio"])
    with pytest.raises(PrefkitError, match="no metric is named"):
        find_metrics([])
    with pytest.raises(PrefkitError, match="expected the weights of syncnet"):
        describe_metrics({"syncnet": Path("nowhere.model")})
    assert row_version(METRICS["flicker"], {}) == METRICS["flicker"].version


def test_what_the_user_gives_is_part_of_a_rows_version(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"weights")
    (tmp_path / "clip.npz").write_bytes(b"boxes")
    weights, about = hashlib.sha256(b"weights").hexdigest()[:8], hashlib.sha256(b"boxes").hexdigest()[:8]
    metric = METRICS["sync_c"]
    given = {"syncnet": tmp_path / "net"}
    assert row_version(metric, given) == f"{metric.version}+{weights}"
    assert row_version(metric, given, tmp_path / "clip.npz") == f"{metric.version}+{weights}+{about}"
    assert row_version(METRICS["flicker"], given, tmp_path / "clip.npz") == METRICS["flicker"].version
