"""Every candidate gets a row per metric: a value, or null and the reason; nothing is computed twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefkit import scoring
from prefkit.errors import PrefkitError
from prefkit.media import sha256_file, write_clip
from prefkit.metrics import catalogue
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, Weights
from prefkit.scoring import score_candidates
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace


def frames(seed: int, num_frames: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 32, 32, 3)).astype(np.uint8)


def candidate(workspace: Workspace, name: str, audio: bool = True, **other: Any) -> dict[str, Any]:
    path = workspace.path(f"clips/{name}.mp4")
    sound = (3000 * np.sin(np.arange(3840) / 9)).astype(np.int16)
    write_clip(path, frames(len(name)), 25, sound if audio else None)
    row = {"candidate_id": name, "condition_id": "c", "clip": f"clips/{name}.mp4", "sha256": sha256_file(path)}
    return row | other


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "ws")
    workspace.append(CONDITIONS, [{"condition_id": "c", "truth": "media/truth.npz", "audio": "media/a.wav"}])
    rows = [candidate(workspace, "good"), candidate(workspace, "silent", audio=False), candidate(workspace, "broken")]
    data = workspace.path("clips/broken.mp4").read_bytes()
    workspace.path("clips/broken.mp4").write_bytes(data[: len(data) // 2])
    changed = candidate(workspace, "changed") | {"sha256": "0" * 64}
    failed = {"candidate_id": "failed", "condition_id": "c", "error": "out of memory"}
    workspace.append(CANDIDATES, [*rows, changed, failed])
    return workspace


def by_key(workspace: Workspace) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["candidate_id"], row["metric"]): row for row in workspace.rows(SCORES)}


def test_rows_have_a_value_or_a_reason(workspace: Workspace) -> None:
    summary = score_candidates(workspace, ["flicker", "silent_ratio"])
    rows = by_key(workspace)
    assert len(rows) == 10
    assert 0 < rows["good", "flicker"]["value"] < 1 and rows["good", "flicker"]["error"] is None
    assert rows["good", "silent_ratio"]["value"] == 0
    assert rows["silent", "flicker"]["value"] is not None
    reasons = {
        ("silent", "silent_ratio"): "the clip has no sound",
        ("broken", "flicker"): "the clip is",
        ("changed", "flicker"): "SHA-256 differs",
        ("failed", "flicker"): "there is no clip: out of memory",
    }
    for key, reason in reasons.items():
        assert rows[key]["value"] is None and reason in rows[key]["error"]
    assert str(workspace.root) not in rows["broken", "flicker"]["error"]
    assert json.loads(rows["good", "flicker"]["details"])["versions"].keys() >= {"prefkit", "av"}
    assert (summary["clips"], summary["scored"], summary["already_there"]) == (5, 3, 0)
    assert sum(summary["not_scored"].values()) == 7
    assert summary["not_scored"]["the clip has no sound"] == 1


def test_only_what_is_missing_is_scored(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    score_candidates(workspace, ["flicker"])
    before = workspace.rows(SCORES)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "read_clip", lambda path: pytest.fail("decoded again"))
        again = score_candidates(workspace, ["flicker"])
    assert again == {"clips": 0, "scored": 0, "not_scored": {}, "already_there": 5}
    assert workspace.rows(SCORES) == before
    assert score_candidates(workspace, ["flicker", "black_ratio"])["already_there"] == 5

    newer = Metric(**{**catalogue.METRICS["flicker"].__dict__, "version": "2"})
    monkeypatch.setitem(catalogue.METRICS, "flicker", newer)
    assert score_candidates(workspace, ["flicker"])["clips"] == 5
    assert {row["metric_version"] for row in workspace.rows(SCORES) if row["metric"] == "flicker"} == {"1", "2"}


def test_processes_give_the_same_rows(workspace: Workspace, tmp_path: Path) -> None:
    score_candidates(workspace, ["flicker", "silent_ratio"], workers=2)
    rows = workspace.rows(SCORES)
    for part in workspace.path("tables/scores").iterdir():
        part.unlink()
    score_candidates(workspace, ["flicker", "silent_ratio"])
    assert workspace.rows(SCORES) == rows


def test_one_decode_serves_all_metrics(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(scoring, "read_clip", lambda path, read=scoring.read_clip: decoded.append(path) or read(path))
    score_candidates(workspace)
    assert len(decoded) == len(set(decoded)) == 4


def test_an_interruption_keeps_what_was_scored(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(clip: ScoredClip) -> Measurement:
        if len(seen) == 1:
            raise ZeroDivisionError
        seen.append(clip)
        assert "truth" not in clip.condition and Path(clip.condition["audio"]).is_absolute()
        return Measurement(1.0)

    seen: list[ScoredClip] = []
    monkeypatch.setitem(
        catalogue.METRICS, "odd", Metric("odd", "1", "higher", "", ("frames",), "a test", "a test", failing)
    )
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        score_candidates(workspace, ["odd"])
    assert [row["candidate_id"] for row in workspace.rows(SCORES)] == ["good"]
    seen.clear()
    assert score_candidates(workspace, ["odd"])["already_there"] == 1


def test_missing_weights_are_a_reason_until_they_are_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(weights: Weights) -> str | None:
        return None if "net" in weights else "no weights: give them with --weights net=PATH"

    def score(clip: ScoredClip) -> Measurement:
        return Measurement(float(clip.weights["net"].stat().st_size))

    metric = Metric("net_score", "3", "higher", "", ("net weights",), "a test", "a test", score, lacks, weights="net")
    monkeypatch.setitem(catalogue.METRICS, "net_score", metric)
    summary = score_candidates(workspace, ["net_score"])
    assert summary["not_scored"] == {"no weights: give them with --weights net=PATH": 5} and summary["scored"] == 0
    assert score_candidates(workspace, ["net_score"])["clips"] == 0

    (tmp_path / "net.bin").write_bytes(b"12345")
    assert score_candidates(workspace, ["net_score"], weights={"net": tmp_path / "net.bin"})["scored"] == 2
    found = [row for row in workspace.rows(SCORES) if row["value"] is not None]
    assert {row["value"] for row in found} == {5.0}
    assert {row["metric_version"] for row in found} == {f"3+{sha256_file(tmp_path / 'net.bin')[:8]}"}
    described = {row["name"]: row["lacks"] for row in catalogue.describe_metrics()}
    assert "no weights" in described["net_score"] and described["flicker"] is None


def test_what_a_package_lacked_is_scored_once_it_is_there(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []
    metric = Metric(
        "later", "1", "higher", "", (), "a test", "a test", lambda clip: Measurement(1.0),
        lambda weights: None if installed else "not installed",
    )  # fmt: skip
    monkeypatch.setitem(catalogue.METRICS, "later", metric)
    assert score_candidates(workspace, ["later"])["scored"] == 0
    installed.append("package")
    assert score_candidates(workspace, ["later"])["scored"] == 2
    assert score_candidates(workspace, ["later"])["clips"] == 0


def test_a_users_mistake_is_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(PrefkitError, match="no metric 'fliker' – did you mean 'flicker'"):
        score_candidates(workspace, ["fliker"])
    with pytest.raises(PrefkitError, match="no metric reads weights called 'sincnet'"):
        score_candidates(workspace, weights={"sincnet": tmp_path})
    with pytest.raises(PrefkitError, match="workers must be at least 1"):
        score_candidates(workspace, workers=0)
    with pytest.raises(PrefkitError, match="no candidates to score"):
        score_candidates(Workspace.create(tmp_path / "empty"))
    assert workspace.rows(SCORES) == []


def test_a_metric_that_returns_no_number_is_a_bug() -> None:
    metric = Metric("nan", "1", "higher", "", (), "", "", lambda clip: Measurement(float("nan")))
    with pytest.raises(ValueError, match="nan returned nan"):
        scoring.measure(ScoredClip(clip=None), [metric])  # type: ignore[arg-type]


def test_a_shared_computation_runs_once_and_so_does_its_refusal() -> None:
    def refuse(clip: ScoredClip) -> float:
        calls.append(clip)
        raise NotScored("no face")

    calls: list[ScoredClip] = []
    scored = ScoredClip(clip=None)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(NotScored, match="no face"):
            scored.once(refuse)
    assert len(calls) == 1
