"""What a metric is: plain data and a function of one decoded clip.

A family is a module with a list `METRICS`. Its arithmetic is pure (arrays in, arrays out); a thin
function `score(clip: ScoredClip) -> Measurement` joins the two. What several metrics of a family share
(flow, landmarks, embeddings) is computed once per clip by `ScoredClip.once`.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from prefkit.media import Clip

Value = TypeVar("Value")

Weights = Mapping[str, Path]
"""Weight files that the user named: {"syncnet": Path(...)}."""


class NotScored(Exception):
    """Why a clip has no value of a metric: it becomes a row with a null value and this reason.

    One sentence without the clip's name, the same for the same cause, since reasons are counted.
    """


class Measurement(NamedTuple):
    """A metric's value of one clip, and what explains it (anything JSON can hold: frame-wise values, provenance)."""

    value: float
    details: Mapping[str, Any] = {}


@dataclass(frozen=True)
class ScoredClip:
    """One decoded clip and all that a metric may look at. Known truth is no part of it.

    Attributes:
        clip: frames uint8 [T, H, W, 3] RGB, fps, timestamps.
        audio: int16 [N], mono, 16 kHz, sample 0 at the first frame; None where the clip has no sound.
        condition: the row of CONDITIONS, paths made absolute, missing values None; `synthetic` instead of
            `truth`: whether it is a synthetic portrait, which the shipped networks read and nothing else.
        weights: weight files that the user named.
    """

    clip: Clip
    audio: np.ndarray | None = None
    condition: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    _computed: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, compute: Callable[["ScoredClip"], Value]) -> Value:
        """`compute(self)`, computed at the first call only; a `NotScored` it raises is raised again each time."""
        if compute not in self._computed:
            try:
                self._computed[compute] = compute(self)
            except NotScored as reason:
                self._computed[compute] = reason
        found = self._computed[compute]
        if isinstance(found, NotScored):
            raise found
        return found

    def sound(self) -> np.ndarray:
        """The sound, int16 [N] at 16 kHz.

        Raises:
            NotScored: the clip has none.
        """
        if self.audio is None:
            raise NotScored("the clip has no sound")
        return self.audio


def nothing_lacking(weights: Weights) -> str | None:
    """What a metric that needs nothing beyond prefkit lacks."""
    return None


def lacking_packages(*modules: str) -> Callable[[Weights], str | None]:
    """What a metric lacks where it needs Python modules that an annotator's machine may not have."""

    def lacks(weights: Weights) -> str | None:
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            return None
        return f"the Python package {' and '.join(missing)} is not installed; get it with: pip install 'prefkit[score]'"

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
        lacks: the weights named by the user -> why it cannot run on this machine, or None. Cheap: imports no torch.
        weights: the key of `Weights` it reads; the file's hash then becomes part of the version of its rows.
    """

    name: str
    version: str
    direction: Literal["higher", "lower", "band"]
    unit: str
    needs: tuple[str, ...]
    source: str
    description: str
    score: Callable[[ScoredClip], Measurement]
    lacks: Callable[[Weights], str | None] = nothing_lacking
    weights: str | None = None
