"""Candidates -> scores: one decode pass per clip, shared by all metrics; one row per clip and metric."""

import json
import math
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from prefkit import __version__
from prefkit.errors import PrefkitError
from prefkit.media import MediaError, NoSoundError, read_audio, read_clip, sha256_file
from prefkit.metrics.catalogue import check_weights, find_metrics, row_version
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, Weights
from prefkit.progress import track
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace

PART_CLIPS = 32  # a part is written after so many clips: what an interruption costs at most
CONDITION_PATHS = ("reference_image", "audio", "skeleton", "keypoints")


def score_candidates(
    workspace: Workspace,
    metrics: Iterable[str] | None = None,
    *,
    weights: Weights | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Scores every candidate that has no row yet for a metric of this version.

    What cannot be scored is a row with a null value and the reason: no clip, a clip that cannot be read,
    no sound, weights that are missing on this machine (scored later, once they are there).

    Args:
        workspace: reads candidates and conditions, appends scores in parts as it goes.
        metrics: names; None for all.
        weights: weight files for metrics that read some, by the name of the network.
        workers: processes; the rows are the same for any number.

    Returns:
        `clips` looked at, values `scored`, `not_scored` (how many by reason), rows `already_there`.

    Raises:
        PrefkitError: there are no candidates, or a metric, weights or number of workers is unknown.
    """
    chosen = find_metrics(metrics)
    weights = {name: Path(path) for name, path in (weights or {}).items()}
    check_weights(weights)
    if workers < 1:
        raise PrefkitError(f"the number of workers must be at least 1, got {workers}")
    candidates = workspace.rows(CANDIDATES)
    if not candidates:
        raise PrefkitError(
            f"{workspace.root} has no candidates to score; make some with 'prefkit sample' or 'prefkit import'"
        )
    lacking = {metric.name: reason for metric in chosen if (reason := metric.lacks(weights)) is not None}
    versions = {metric.name: row_version(metric, weights) for metric in chosen}
    done = _done(workspace.rows(SCORES), lacking)
    tasks = _tasks(workspace, candidates, versions, lacking, weights, done)

    scored = 0
    not_scored: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    try:
        for number, found in enumerate(track(_score_all(tasks, workers), "Scoring", total=len(tasks)), start=1):
            rows += found
            scored += sum(row["value"] is not None for row in found)
            not_scored.update(row["error"] for row in found if row["value"] is None)
            if number % PART_CLIPS == 0:
                workspace.append(SCORES, rows)
                rows = []
    finally:
        workspace.append(SCORES, rows)
    return {
        "clips": len(tasks),
        "scored": scored,
        "not_scored": dict(sorted(not_scored.items())),
        "already_there": len(candidates) * len(chosen) - sum(len(task.versions) for task in tasks),
    }


def measure(scored: ScoredClip, metrics: Sequence[Metric]) -> dict[str, Measurement | NotScored]:
    """Every metric's value of one decoded clip, or the reason why it has none.

    Raises:
        ValueError: a metric returned something that is not a finite number (a bug in the metric).
    """
    found: dict[str, Measurement | NotScored] = {}
    for metric in metrics:
        lack = metric.lacks(scored.weights)
        try:
            found[metric.name] = NotScored(lack) if lack is not None else metric.score(scored)
        except NotScored as reason:
            found[metric.name] = reason
        measurement = found[metric.name]
        if isinstance(measurement, Measurement) and not math.isfinite(measurement.value):
            raise ValueError(f"{metric.name} returned {measurement.value}; a metric that has no value raises NotScored")
    return found


@dataclass(frozen=True)
class _Task:
    """One clip and what to score it with; plain data, so that it can go to another process."""

    candidate_id: str
    clip: Path | None
    sha256: str | None
    error: str | None
    condition: Mapping[str, Any]
    versions: Mapping[str, str]
    lacking: Mapping[str, str]
    weights: Weights


def _done(scores: Iterable[Mapping[str, Any]], lacking: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """The keys of rows that stand: a row for want of weights stands only as long as they are wanting."""
    return {
        (row["candidate_id"], row["metric"], row["metric_version"])
        for row in scores
        if row["metric"] in lacking or not json.loads(row["details"] or "{}").get("lacking")
    }


def _tasks(
    workspace: Workspace,
    candidates: Iterable[Mapping[str, Any]],
    versions: Mapping[str, str],
    lacking: Mapping[str, str],
    weights: Weights,
    done: set[tuple[str, str, str]],
) -> list[_Task]:
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    tasks = []
    for row in candidates:
        candidate = row["candidate_id"]
        wanted = {name: version for name, version in versions.items() if (candidate, name, version) not in done}
        if not wanted:
            continue
        tasks.append(
            _Task(
                candidate_id=candidate,
                clip=workspace.path(row["clip"]) if row["clip"] else None,
                sha256=row["sha256"],
                error=row["error"],
                condition=_with_absolute_paths(workspace, conditions.get(row["condition_id"], {})),
                versions=wanted,
                lacking=lacking,
                weights=weights,
            )
        )
    return tasks


def _with_absolute_paths(workspace: Workspace, condition: Mapping[str, Any]) -> dict[str, Any]:
    # known truth is for tests and evaluation: a metric that saw it would measure nothing; that there is one
    # marks a synthetic portrait, the only thing that the shipped networks can read
    row = {name: value for name, value in condition.items() if name != "truth"}
    row["synthetic"] = condition.get("truth") is not None
    for name in CONDITION_PATHS:
        if row.get(name):
            row[name] = str(workspace.path(row[name]))
    return row


def _score_all(tasks: Sequence[_Task], workers: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of one task after the other, in order."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_score_task, tasks)
        return
    # spawned, since a forked process inherits the locks of torch's and OpenCV's threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_one_thread_each) as pool:
        try:
            yield from pool.map(_score_task, tasks)
        except BrokenProcessPool as error:
            raise PrefkitError(
                "a scoring process was killed, most likely for want of memory; run again with fewer --workers "
                "(what was scored is kept)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread_each() -> None:
    """Threads of several processes would wait for each other; most of the time, on few cores."""
    os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")
    # a script that calls this stage has imported them again by now, with as many threads as there are cores
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


def _score_task(task: _Task) -> list[dict[str, Any]]:
    metrics = find_metrics(task.versions)
    runnable = [metric for metric in metrics if metric.name not in task.lacking]
    found: dict[str, Measurement | NotScored] = {}
    if runnable:
        try:
            found = measure(_decode(task), runnable)
        except NotScored as reason:
            found = {metric.name: reason for metric in runnable}
    return [_row(task, metric, found.get(metric.name)) for metric in metrics]


def _decode(task: _Task) -> ScoredClip:
    if task.clip is None:
        raise NotScored(f"there is no clip: {task.error or 'its row gives no reason'}")
    try:
        clip = read_clip(task.clip)
        audio = _sound(task.clip)
    except MediaError as error:
        raise NotScored(str(error).replace(str(task.clip), "the clip")) from error
    if task.sha256 is not None and sha256_file(task.clip) != task.sha256:
        raise NotScored("the clip's file is not the one that was made or imported (its SHA-256 differs)")
    return ScoredClip(clip, audio, task.condition, task.weights)


def _sound(path: Path) -> np.ndarray | None:
    try:
        return read_audio(path)
    except NoSoundError:
        return None


def _row(task: _Task, metric: Metric, found: Measurement | NotScored | None) -> dict[str, Any]:
    row = {"candidate_id": task.candidate_id, "metric": metric.name, "metric_version": task.versions[metric.name]}
    made_by = {"versions": {"prefkit": __version__, "av": av.__version__, "numpy": np.__version__}}
    if isinstance(found, Measurement):
        return row | {"value": float(found.value), "error": None, "details": _json(made_by | dict(found.details))}
    if found is not None:
        return row | {"value": None, "error": str(found), "details": _json(made_by)}
    details = _json(made_by | {"lacking": True})
    return row | {"value": None, "error": task.lacking[metric.name], "details": details}


def _json(details: Mapping[str, Any]) -> str:
    return json.dumps(details, sort_keys=True, allow_nan=False)
