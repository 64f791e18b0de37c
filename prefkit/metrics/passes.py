"""One decode pass of a clip for all metrics, and a second for those that must know the first one's result."""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.media import Frame
from prefkit.metrics.metric import Measurement, Metric, NotScored, Reader, Reading, ScoredClip

Frames = Callable[[], Iterable[Frame]]
"""Decodes the clip from its beginning."""


def measure(scored: ScoredClip, frames: Frames, metrics: Sequence[Metric]) -> dict[str, Measurement | NotScored]:
    """Every metric's value of one clip, or the reason why it has none.

    A metric that fails is a reason of the kind "failed" with its traceback, and stops no other.

    Args:
        scored: the clip; its timestamps and what was found are filled in.
        frames: gives the clip's frames, each time from the beginning.
        metrics: those to compute; the readings that they share run once.

    Raises:
        prefkit.media.MediaError: the clip cannot be read to its end.
        PrefkitError: weights that the user named cannot be used.
    """
    refused = {metric.name: reason for metric in metrics if (reason := _refusal(scored, metric))}
    able = [metric for metric in metrics if metric.name not in refused]
    scored.timestamps = np.array(_pass(scored, frames, [reading for metric in able for reading in metric.reads]))
    again = _start(scored, [reading for metric in able for reading in metric.rereads])
    if again:
        _show(scored, again, frames())
    return {metric.name: refused.get(metric.name) or _score(scored, metric) for metric in metrics}


def array_frames(frames: np.ndarray, fps: float) -> Frames:
    """Frames that are in memory already: uint8 [T, H, W, 3] RGB at an even rate."""
    return lambda: (Frame(index, index / fps, lambda image=image: image) for index, image in enumerate(frames))  # type: ignore[misc]


def _refusal(scored: ScoredClip, metric: Metric) -> NotScored | None:
    lack = metric.lacks(scored.weights)
    if lack is not None:
        return NotScored("lacking", lack)
    return _caught(lambda: metric.check(scored))


def _pass(scored: ScoredClip, frames: Frames, readings: Iterable[Reading]) -> list[float]:
    return _show(scored, _start(scored, readings), frames())


def _start(scored: ScoredClip, readings: Iterable[Reading]) -> dict[Reading, Reader]:
    """A reader for each reading that the clip has not had and that can read it."""
    readers: dict[Reading, Reader] = {}
    for reading in dict.fromkeys(readings):
        if reading not in scored.found:
            reason = _caught(lambda reading=reading: readers.update({reading: reading(scored)}))  # type: ignore[misc]
            scored.found |= {reading: reason} if reason else {}
    return readers


def _show(scored: ScoredClip, readers: dict[Reading, Reader], frames: Iterable[Frame]) -> list[float]:
    """Lets every reader see all frames and keeps what each found; returns the frames' times."""
    times = []
    for frame in frames:
        times.append(frame.seconds)
        for reading, reader in list(readers.items()):
            try:
                reader.add(frame)
            except Exception as error:
                scored.found[reading] = _reason(error)
                del readers[reading]
    for reading, reader in readers.items():
        reason = _caught(lambda reading=reading, reader=reader: scored.found.update({reading: reader.result()}))  # type: ignore[misc]
        scored.found |= {reading: reason} if reason else {}
    return times


def _score(scored: ScoredClip, metric: Metric) -> Measurement | NotScored:
    try:
        found = metric.score(scored)
        if not math.isfinite(found.value):
            raise ValueError(f"{metric.name} returned {found.value}; a metric that has no value raises NotScored")
    except Exception as error:
        return _reason(error)
    return found


def _caught(step: Callable[[], object]) -> NotScored | None:
    try:
        step()
    except Exception as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> NotScored:
    """What stopped a metric, for its row; a user's mistake goes on to stop the run."""
    if isinstance(error, NotScored):
        return error
    if isinstance(error, PrefkitError):
        raise error
    return NotScored("failed", f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
