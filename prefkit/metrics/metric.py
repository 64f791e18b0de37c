"""What a metric is: plain data and a function of one clip that has been read.

A family is a module with a list `METRICS`. Clips are streamed: a metric names the readings it wants
(`Reading`), each of which sees every frame once while the clip is decoded, and its function
`score(clip: ScoredClip) -> Measurement` sees what the readings found and the sound. Readings and
`ScoredClip.once` are shared between the metrics of a clip.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, get_args

import numpy as np

from prefkit.media import Frame

Value = TypeVar("Value")

Weights = Mapping[str, Path]
"""Weight files that the user named: {"syncnet": Path(...)}."""

Reason = Literal[
    "no_clip",  # sampling or import made none
    "unreadable",  # the file is truncated, damaged or no video
    "changed",  # the file is not the one that was made or imported
    "no_sound",
    "no_face",
    "no_landmarks",
    "no_keypoints",
    "no_reference",  # the condition lacks what the clip is compared with
    "too_short",
    "too_small",
    "frame_rate",
    "constant",  # nothing changes, so nothing can be correlated or counted
    "not_applicable",  # the metric says nothing about this kind of clip
    "bad_input",  # a supplied file of boxes, landmarks or keypoints does not fit the clip
    "lacking",  # weights or a package that this machine lacks
    "failed",  # a bug: the row's details hold the traceback
]
FAILURES: tuple[Reason, ...] = ("unreadable", "changed", "bad_input", "failed")  # what the exit code tells of


class NotScored(Exception):
    """Why a clip has no value of a metric: it becomes a row with a null value, this kind and this sentence.

    One sentence without the clip's name, the same for the same cause, since reasons are counted.
    """

    def __init__(self, kind: Reason, sentence: str, traceback: str | None = None):
        super().__init__(sentence)
        if kind not in get_args(Reason):
            raise ValueError(f"{kind!r} is no kind of reason")
        self.kind = kind
        self.traceback = traceback


class Measurement(NamedTuple):
    """A metric's value of one clip, and what explains it (anything JSON can hold: frame-wise values, provenance)."""

    value: float
    details: Mapping[str, Any] = {}


class Reader(Protocol):
    """Looks at the frames of one clip as they pass, and keeps what it found; memory must not grow with frames."""

    def add(self, frame: Frame) -> None:
        """Sees the next frame; may raise NotScored."""

    def result(self) -> Any:
        """What was found, after the last frame; may raise NotScored."""


@dataclass(eq=False)
class ScoredClip:
    """One clip and all that a metric may look at. Known truth is no part of it.

    Attributes:
        fps: average frames a second.
        height: of a frame, in pixels.
        width: likewise.
        audio: int16 [N], mono, 16 kHz, sample 0 at the first frame; None where the clip has no sound.
        condition: the row of CONDITIONS, paths made absolute, missing values None; `synthetic` instead of
            `truth`: whether it is a synthetic portrait, which the shipped networks read and nothing else.
        weights: weight files that the user named.
        supplied: what the user's file about this clip holds: boxes, landmarks, keypoints, by name.
        timestamps: float64 [T], seconds, 0 at the first frame; empty until the first pass is over.
    """

    fps: float
    height: int
    width: int
    audio: np.ndarray | None = None
    condition: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    supplied: Mapping[str, np.ndarray] = field(default_factory=dict)
    timestamps: np.ndarray = field(default_factory=lambda: np.empty(0))
    found: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    @property
    def num_frames(self) -> int:
        """T, known after the first pass."""
        return len(self.timestamps)

    @property
    def synthetic(self) -> bool:
        """Whether it is a drawn portrait, which the shipped networks read."""
        return bool(self.condition.get("synthetic"))

    def seen(self, reading: "Reading") -> Any:
        """What a reading found; a `NotScored` it raised is raised again."""
        if reading not in self.found:
            raise KeyError(f"{reading} was not read: the metric must name it in reads or rereads")
        return self._given(reading)

    def once(self, compute: Callable[["ScoredClip"], Value]) -> Value:
        """`compute(self)`, computed at the first call only; a `NotScored` it raises is raised again each time."""
        if compute not in self.found:
            try:
                self.found[compute] = compute(self)
            except NotScored as reason:
                self.found[compute] = reason
        return self._given(compute)

    def _given(self, key: Callable[..., Any]) -> Any:
        found = self.found[key]
        if isinstance(found, NotScored):
            raise found
        return found

    def sound(self) -> np.ndarray:
        """The sound, int16 [N] at 16 kHz.

        Raises:
            NotScored: the clip has none.
        """
        if self.audio is None or not len(self.audio):
            raise NotScored("no_sound", "the clip has no sound")
        return self.audio


Reading = Callable[[ScoredClip], Reader]
"""Starts a reader for a clip; raises `NotScored` where it cannot read such a clip."""


def nothing_lacking(weights: Weights) -> str | None:
    """What a metric that needs nothing beyond prefkit lacks."""
    return None


def nothing_to_check(scored: ScoredClip) -> None:
    """What can be told of a clip before it is read, for a metric that reads them all."""


def missing_packages(*modules: str) -> str | None:
    """A sentence about the Python modules that are not installed, or None."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return None
    return f"the Python package {' and '.join(missing)} is not installed; get it with: pip install 'prefkit[score]'"


def lacking_packages(*modules: str) -> Callable[[Weights], str | None]:
    """What a metric lacks where it needs Python modules that an annotator's machine may not have."""

    def lacks(weights: Weights) -> str | None:
        return missing_packages(*modules)

    return lacks


@dataclass(frozen=True)
class Metric:
    """A measure of one clip.

    Attributes:
        name: what rows and the command line call it.
        version: changes whenever the same clip could get another value.
        direction: "higher" or "lower" is better; "band": both too little and too much are worse, so
            values are compared with those of good clips and never summed up.
        unit: of the value; "" for a plain number.
        needs: what it looks at, in words: "frames", "sound", "landmarks", "SyncNet weights".
        source: paper, equation or project it follows.
        description: one line.
        score: a `ScoredClip` -> its `Measurement`; raises `NotScored`.
        check: raises `NotScored` for what can be told before the clip is read, so that nothing is read in vain.
        reads: readings that see the frames in the first pass.
        rereads: readings that need what the first pass found, and see the frames once more.
        lacks: the weights named by the user -> why it cannot run on this machine, or None. Cheap: imports no torch.
        weights: the keys of `Weights` it may read; the files' hashes become part of the version of its rows.
        supplies: what it takes from a supplied file: boxes, landmarks, keypoints; likewise.
    """

    name: str
    version: str
    direction: Literal["higher", "lower", "band"]
    unit: str
    needs: tuple[str, ...]
    source: str
    description: str
    score: Callable[[ScoredClip], Measurement]
    check: Callable[[ScoredClip], None] = nothing_to_check
    reads: tuple[Reading, ...] = ()
    rereads: tuple[Reading, ...] = ()
    lacks: Callable[[Weights], str | None] = nothing_lacking
    weights: tuple[str, ...] = ()
    supplies: tuple[str, ...] = ()
