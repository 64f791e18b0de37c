"""Readings of a clip that are a value per frame, or per step from one frame to the next."""

from collections.abc import Callable
from typing import Any

import numpy as np

from prefkit.media import Frame
from prefkit.metrics.metric import Reading, ScoredClip


class _EachFrame:
    def __init__(self, measure: Callable[[np.ndarray], Any]):
        self._measure = measure
        self._values: list[Any] = []

    def add(self, frame: Frame) -> None:
        self._values.append(self._measure(frame.rgb))

    def result(self) -> np.ndarray:
        return np.array(self._values)


class _EachStep:
    def __init__(self, compare: Callable[[Any, Any], Any], prepare: Callable[[np.ndarray], Any]):
        self._compare, self._prepare = compare, prepare
        self._before: Any = None
        self._values: list[Any] = []

    def add(self, frame: Frame) -> None:
        now = self._prepare(frame.rgb)
        if self._before is not None:
            self._values.append(self._compare(self._before, now))
        self._before = now

    def result(self) -> np.ndarray:
        return np.array(self._values)


def each_frame(measure: Callable[[np.ndarray], Any]) -> Reading:
    """A reading of `measure(frame)` for every frame, uint8 [H, W, 3] RGB: its result is an array [T, …]."""
    return lambda scored: _EachFrame(measure)


def each_step(
    compare: Callable[[Any, Any], Any], prepare: Callable[[np.ndarray], Any] = lambda frame: frame
) -> Reading:
    """A reading of `compare(prepare(frame), prepare(next frame))` for every step: an array [T − 1, …]."""

    def start(scored: ScoredClip) -> _EachStep:
        return _EachStep(compare, prepare)

    return start
