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
        ("broken", "flicker"): "the clip cannot be read",
        ("changed", "flicker"): "SHA-256 differs",
        ("failed", "flicker"): "there is no clip: out of memory",
    }
    for key, reason in reasons.items():
        assert rows[key]["value"] is None and reason in rows[key]["error"]
    kinds = {"silent": "no_sound", "broken": "unreadable", "changed": "changed", "failed": "no_clip"}
    assert {name: rows[name, "silent_ratio"]["error_type"] for name in kinds} == kinds
    assert rows["good", "flicker"]["error_type"] is None
    assert str(workspace.root) not in rows["broken", "flicker"]["error"]
    assert json.loads(rows["good", "flicker"]["details"])["versions"].keys() >= {"prefkit", "av"}
    assert (summary["clips"], summary["scored"], summary["already_there"]) == (5, 3, 0)
    assert sum(summary["not_scored"].values()) == 7
    assert summary["not_scored"]["the clip has no sound"] == 1
    assert summary["failed"] == 4  # two metrics of the broken and of the changed file


def test_only_what_is_missing_is_scored(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    score_candidates(workspace, ["flicker"])
    before = workspace.rows(SCORES)
    parts = len(list(workspace.path("tables/scores").iterdir()))
    again = score_candidates(workspace, ["flicker"])
    # the two files that cannot be used are tried again; nothing new is said about them
    assert (again["clips"], again["scored"], again["already_there"], again["failed"]) == (2, 0, 3, 2)
    assert workspace.rows(SCORES) == before
    assert len(list(workspace.path("tables/scores").iterdir())) == parts
    assert score_candidates(workspace, ["flicker", "black_ratio"])["already_there"] == 3

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
    stream = scoring.stream_frames
    monkeypatch.setattr(scoring, "stream_frames", lambda path: decoded.append(path) or stream(path))
    score_candidates(workspace)
    assert len(decoded) == len(set(decoded)) == 3  # the broken one has no first frame


def odd(score: Any) -> Metric:
    return Metric("odd", "1", "higher", "", ("frames",), "a test", "a test", score)


def test_an_interruption_keeps_what_was_scored(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(clip: ScoredClip) -> Measurement:
        if stop and seen:
            raise KeyboardInterrupt
        seen.append(clip)
        assert "truth" not in clip.condition and Path(clip.condition["audio"]).is_absolute()
        return Measurement(1.0)

    seen: list[ScoredClip] = []
    stop = [True]
    monkeypatch.setitem(catalogue.METRICS, "odd", odd(stopping))
    with pytest.raises(KeyboardInterrupt):
        score_candidates(workspace, ["odd"])
    assert [row["candidate_id"] for row in workspace.rows(SCORES)] == ["good"]
    stop.clear()
    assert score_candidates(workspace, ["odd"])["already_there"] == 1


def test_a_metric_that_fails_stops_no_other_and_is_tried_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    def failing(clip: ScoredClip) -> Measurement:
        return Measurement(float("nan") if clip.audio is None else 1 / (not broken))

    monkeypatch.setitem(catalogue.METRICS, "odd", odd(failing))
    summary = score_candidates(workspace, ["odd", "flicker"])
    rows = by_key(workspace)
    assert rows["good", "flicker"]["value"] is not None
    assert rows["good", "odd"]["error"] == "ZeroDivisionError: division by zero"
    assert "in failing" in json.loads(rows["good", "odd"]["details"])["traceback"]
    assert "odd returned nan" in rows["silent", "odd"]["error"]  # a metric without a value says why
    assert {rows[name, "odd"]["error_type"] for name in ("good", "silent")} == {"failed"}
    assert summary["failed"] == 2 + 2 * 2
    broken.clear()
    score_candidates(workspace, ["odd"])
    assert by_key(workspace)["good", "odd"]["value"] == 1


def test_missing_weights_are_a_reason_until_they_are_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(weights: Weights) -> str | None:
        return None if "net" in weights else "no weights: give them with --weights net=PATH"

    def score(clip: ScoredClip) -> Measurement:
        return Measurement(float(clip.weights["net"].stat().st_size))

    metric = Metric(
        "net_score", "3", "higher", "", ("net weights",), "a test", "a test", score, lacks=lacks, weights=("net",)
    )
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
        lacks=lambda weights: None if installed else "not installed",
    )  # fmt: skip
    monkeypatch.setitem(catalogue.METRICS, "later", metric)
    assert score_candidates(workspace, ["later"])["scored"] == 0
    installed.append("package")
    assert score_candidates(workspace, ["later"])["scored"] == 2
    assert score_candidates(workspace, ["later"])["already_there"] == 3


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


def test_a_shared_computation_runs_once_and_so_does_its_refusal() -> None:
    def refuse(clip: ScoredClip) -> float:
        calls.append(clip)
        raise NotScored("no_face", "no face")

    calls: list[ScoredClip] = []
    scored = ScoredClip(25.0, 32, 32)
    for _ in range(2):
        with pytest.raises(NotScored, match="no face"):
            scored.once(refuse)
    assert len(calls) == 1


def test_files_about_clips_are_found_by_the_clips_own_name(workspace: Workspace, tmp_path: Path) -> None:
    """Boxes say that half of the clip has no face; a file that does not fit is a reason."""
    boxes = np.full((6, 4), np.nan)
    boxes[:3] = (4, 4, 20, 20)
    imported = candidate(workspace, "abcd") | {"candidate_id": "x1", "settings": json.dumps({"source": "holiday.mov"})}
    workspace.append(CONDITIONS, [{"condition_id": "real"}])
    workspace.append(CANDIDATES, [imported | {"condition_id": "real"}])
    folder = tmp_path / "about"
    folder.mkdir()
    np.savez(folder / "holiday.npz", boxes=boxes)
    np.savez(folder / "good.npz", boxes=boxes[:3])
    score_candidates(workspace, ["no_face_ratio"], supplied=folder)
    rows = by_key(workspace)
    assert rows["x1", "no_face_ratio"]["value"] == 0.5
    assert rows["good", "no_face_ratio"]["error_type"] == "bad_input"
    assert "of 3 frames and the clip has 6" in rows["good", "no_face_ratio"]["error"]
    with pytest.raises(PrefkitError, match="no folder"):
        score_candidates(workspace, supplied=tmp_path / "nowhere")
