"""Candidates -> scores: one decode pass per clip, shared by all metrics; one row per clip and metric."""

import json
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
from prefkit.media import MediaError, NoSoundError, probe, read_audio, sha256_file, stream_frames
from prefkit.metrics.catalogue import check_weights, find_metrics, known_metrics, row_version
from prefkit.metrics.metric import FAILURES, Measurement, Metric, NotScored, ScoredClip, Weights
from prefkit.metrics.passes import measure
from prefkit.metrics.supplied import read_supplied, supplied_file
from prefkit.metrics.weight_files import local_file
from prefkit.progress import track
from prefkit.tables import CANDIDATES, CONDITIONS, SCORES
from prefkit.workspace import Workspace

PART_CLIPS = 32  # a part is written after so many clips: what an interruption costs at most
CONDITION_PATHS = ("reference_image", "audio", "skeleton", "keypoints")


def score_candidates(
    workspace: Workspace,
    metrics: Iterable[str] | None = None,
    *,
    weights: Mapping[str, str | Path] | None = None,
    supplied: str | Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Scores every candidate that has no row yet for a metric of this version.

    What cannot be scored is a row with a null value, the kind of reason and a sentence: no clip, a clip that
    cannot be read, no sound, no face, weights that are missing on this machine (scored later, once they are
    there). Failures – unreadable or changed files, bugs – are tried again at the next run.

    Args:
        workspace: reads candidates and conditions, appends scores in parts as it goes.
        metrics: names, or "package.module:Object"; None for all.
        weights: weight files for metrics that read some, by the name of the network: a path, or
            hf://owner/repo/file.
        supplied: a folder of files about clips: boxes, landmarks, keypoints; see `prefkit.metrics.supplied`.
        workers: processes; the rows are the same for any number.

    Returns:
        `clips` looked at, values `scored`, `not_scored` (how many by reason), rows `already_there`, and how
        many of those not scored `failed`.

    Raises:
        PrefkitError: there are no candidates, or a metric, weights, folder or number of workers is unknown.
    """
    names = None if metrics is None else list(metrics)
    chosen = find_metrics(names)
    files = {name: local_file(path) for name, path in (weights or {}).items()}
    check_weights(files, [*known_metrics().values(), *chosen])
    if workers < 1:
        raise PrefkitError(f"the number of workers must be at least 1, got {workers}")
    if supplied is not None and not Path(supplied).is_dir():
        raise PrefkitError(f"there is no folder {supplied}; expected files about clips, named by candidate_id")
    candidates = workspace.rows(CANDIDATES)
    if not candidates:
        raise PrefkitError(
            f"{workspace.root} has no candidates to score; make some with 'prefkit sample' or 'prefkit import'"
        )
    lacking = {metric.name: reason for metric in chosen if (reason := metric.lacks(files)) is not None}
    stands = {tuple(row[name] for name in SCORES.key): row for row in workspace.rows(SCORES)}
    job = _Job(names, chosen, lacking, files, None if supplied is None else Path(supplied))
    tasks = _tasks(workspace, candidates, job, _done(stands.values(), lacking))

    counts: Counter[str] = Counter()
    not_scored: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    try:
        for number, found in enumerate(track(_score_all(tasks, workers), "Scoring", total=len(tasks)), start=1):
            rows += [row for row in found if not _same(row, stands.get(tuple(row[name] for name in SCORES.key)))]
            counts["scored"] += sum(row["value"] is not None for row in found)
            counts["failed"] += sum(row["error_type"] in FAILURES for row in found)
            not_scored.update(row["error"] for row in found if row["value"] is None)
            if number % PART_CLIPS == 0:
                workspace.append(SCORES, rows)
                rows = []
    finally:
        workspace.append(SCORES, rows)
    return {
        "clips": len(tasks),
        "scored": counts["scored"],
        "not_scored": dict(sorted(not_scored.items())),
        "already_there": len(candidates) * len(chosen) - sum(len(task.versions) for task in tasks),
        "failed": counts["failed"],
    }


def _same(row: Mapping[str, Any], stood: Mapping[str, Any] | None) -> bool:
    """Whether a failure is what it was before, so that trying again does not add rows."""
    return stood is not None and row["value"] is None and row["error"] == stood["error"]


@dataclass(frozen=True)
class _Job:
    """What all clips are scored with."""

    names: Sequence[str] | None  # as the user gave them: a metric itself cannot always go to another process
    metrics: Sequence[Metric]
    lacking: Mapping[str, str]
    weights: Weights
    supplied: Path | None


@dataclass(frozen=True)
class _Task:
    """One clip and what to score it with; plain data, so that it can go to another process."""

    candidate_id: str
    clip: Path | None
    sha256: str | None
    error: str | None
    condition: Mapping[str, Any]
    names: Sequence[str] | None
    versions: Mapping[str, str]
    lacking: Mapping[str, str]
    weights: Weights
    supplied: Path | None


def _done(scores: Iterable[Mapping[str, Any]], lacking: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """The keys of rows that stand: not failures, and what was lacking only as long as it is."""
    return {
        (row["candidate_id"], row["metric"], row["metric_version"])
        for row in scores
        if row["error_type"] not in FAILURES and (row["error_type"] != "lacking" or row["metric"] in lacking)
    }


def _tasks(
    workspace: Workspace, candidates: Iterable[Mapping[str, Any]], job: _Job, done: set[tuple[str, str, str]]
) -> list[_Task]:
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    tasks = []
    for row in candidates:
        candidate = row["candidate_id"]
        about = job.supplied and supplied_file(job.supplied, (candidate, _imported_name(row)))
        versions = {metric.name: row_version(metric, job.weights, about or None) for metric in job.metrics}
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
                names=job.names,
                versions=wanted,
                lacking=job.lacking,
                weights=job.weights,
                supplied=about or None,
            )
        )
    return tasks


def _imported_name(candidate: Mapping[str, Any]) -> str | None:
    """The stem of the file that a candidate was imported from."""
    file = json.loads(candidate["settings"] or "{}").get("source")
    return Path(file).stem if isinstance(file, str) else None


def _with_absolute_paths(workspace: Workspace, condition: Mapping[str, Any]) -> dict[str, Any]:
    # known truth is for tests and evaluation: a metric that saw it would measure nothing; that there is one
    # marks a synthetic portrait, the only thing that the shipped networks can read
    row = {name: value for name, value in condition.items() if name != "truth"}
    row["synthetic"] = condition.get("truth") is not None
    for name in CONDITION_PATHS:
        if row.get(name):
            row[name] = str(workspace.path(row[name]))
    return row


_SHARED_IMPORTS = ["torch", "cv2", "scipy.signal", "prefkit.metrics.loaded_networks", "prefkit.metrics.syncnet"]


def _score_all(tasks: Sequence[_Task], workers: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of one task after the other, in order."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_score_task, tasks)
        return
    # Not forked from here: that would inherit the locks of torch's and OpenCV's threads. They come from a server
    # that has imported both, once for all, and run nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SHARED_IMPORTS)
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
    metrics = [metric for metric in find_metrics(task.names) if metric.name in task.versions]
    runnable = [metric for metric in metrics if metric.name not in task.lacking]
    found: dict[str, Measurement | NotScored] = {
        name: NotScored("lacking", reason) for name, reason in task.lacking.items()
    }
    if runnable:
        try:
            found |= _measure(task, runnable)
        except NotScored as reason:
            found |= {metric.name: reason for metric in runnable}
    return [_row(task, metric, found[metric.name]) for metric in metrics]


def _measure(task: _Task, metrics: Sequence[Metric]) -> dict[str, Measurement | NotScored]:
    """Scores one clip.

    Raises:
        NotScored: there is no clip, or its file or the supplied one cannot be used.
    """
    if task.clip is None:
        raise NotScored("no_clip", f"there is no clip: {task.error or 'its row gives no reason'}")
    path = task.clip
    supplied = {} if task.supplied is None else read_supplied(task.supplied)
    try:
        # the file is read to its end before its hash is: what is wrong with it says more
        about = probe(path)
        scored = ScoredClip(
            fps=about.fps,
            height=about.height,
            width=about.width,
            audio=_sound(path),
            condition=task.condition,
            weights=task.weights,
            supplied=supplied,
        )
        found = measure(scored, lambda: stream_frames(path), metrics)
    except MediaError as error:
        raise NotScored("unreadable", str(error).replace(str(path), "the clip")) from error
    if task.sha256 is not None and sha256_file(path) != task.sha256:
        raise NotScored("changed", "the clip's file is not the one that was made or imported (its SHA-256 differs)")
    return found


def _sound(path: Path) -> np.ndarray | None:
    try:
        return read_audio(path)
    except NoSoundError:
        return None


def _row(task: _Task, metric: Metric, found: Measurement | NotScored) -> dict[str, Any]:
    row = {"candidate_id": task.candidate_id, "metric": metric.name, "metric_version": task.versions[metric.name]}
    made_by = {"versions": {"prefkit": __version__, "av": av.__version__, "numpy": np.__version__}}
    if isinstance(found, Measurement):
        details = _json(made_by | dict(found.details))
        return row | {"value": float(found.value), "error": None, "error_type": None, "details": details}
    details = _json(made_by | ({"traceback": found.traceback} if found.traceback else {}))
    return row | {"value": None, "error": str(found), "error_type": found.kind, "details": details}


def _json(details: Mapping[str, Any]) -> str:
    return json.dumps(details, sort_keys=True, allow_nan=False)
