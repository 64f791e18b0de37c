"""The metrics over drawn portraits with one injected fault at a time: curves that must rise, fall or stay."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prefkit.metrics.catalogue import find_metrics
from prefkit.metrics.metric import Measurement, NotScored, ScoredClip
from prefkit.metrics.passes import array_frames, measure
from prefkit.progress import track
from prefkit.synthetic.portrait import FPS, Faults, Portrait, make_portrait

SEED = 22_000_000  # portraits that training never drew
NUM_FRAMES = 50

Shape = Literal["rises", "falls", "follows", "opposes"]
SAYS = {
    "rises": "never falls",
    "falls": "never rises",
    "follows": "moves by as much, ± 1",
    "opposes": "moves by as much the other way, ± 1",
}


@dataclass(frozen=True)
class Fault:
    """A kind of damage, in growing strength.

    Attributes:
        name: of the fault.
        unit: of its strength.
        levels: strengths, from least to most.
        damage: strength and seed -> the portrait.
        expected: metric -> the shape its mean must have over the levels.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    damage: Callable[[float, int], Portrait]
    expected: Mapping[str, Shape]


@dataclass(frozen=True)
class Curve:
    """One metric over the levels of one fault.

    Attributes:
        fault: its name.
        unit: of the levels.
        metric: its name.
        expected: the shape it must have.
        levels: [L].
        means: [L], over portraits; NaN where none could be scored.
        holds: whether it has that shape.
        error: why there are no values, else None.
    """

    fault: str
    unit: str
    metric: str
    expected: Shape
    levels: tuple[float, ...]
    means: tuple[float, ...]
    holds: bool
    error: str | None = None


def _faulty(**faults: Any) -> Callable[[int], Portrait]:
    return lambda seed: make_portrait(seed, num_frames=NUM_FRAMES, faults=Faults(**faults))


def _frozen(share: float, seed: int) -> Portrait:
    portrait = make_portrait(seed, num_frames=NUM_FRAMES)
    frames = portrait.frames.copy()
    first = round((1 - share) * (NUM_FRAMES - 1))
    frames[first:] = frames[first]
    return replace(portrait, frames=frames)


def _blackened(share: float, seed: int) -> Portrait:
    portrait = make_portrait(seed, num_frames=NUM_FRAMES)
    frames = portrait.frames.copy()
    frames[round((1 - share) * NUM_FRAMES) :] = 0
    return replace(portrait, frames=frames)


def _silenced(share: float, seed: int) -> Portrait:
    portrait = make_portrait(seed, num_frames=NUM_FRAMES)
    audio = portrait.audio.copy()
    audio[round((1 - share) * len(audio)) :] = 0
    return replace(portrait, audio=audio)


FAULTS = (
    Fault(
        "sound late", "frames", (0, 2, 4, 6, 8), lambda lag, seed: _faulty(audio_lag=int(lag))(seed),
        {"av_lag": "follows", "sync_offset": "opposes", "sync_offset_valid": "opposes"},
    ),
    Fault(
        "sound a little late", "frames", (0, 1, 2, 3), lambda lag, seed: _faulty(audio_lag=int(lag))(seed),
        {"av_corr0": "falls", "sync_d0": "rises"},
    ),
    Fault(
        "jitter of the head", "pixels", (0, 0.25, 0.5, 1, 2), lambda size, seed: _faulty(jitter=size)(seed),
        {"landmark_jerk": "rises", "head_speed": "rises", "flow_acceleration": "rises", "flicker": "falls"},
    ),
    Fault(
        "amplitude of the mouth", "share", (0, 0.25, 0.5, 0.75, 1), lambda gain, seed: _faulty(mouth_gain=gain)(seed),
        {"mouth_range": "rises"},
    ),
    Fault(
        "blinks", "in 2 s", (0, 1, 2, 3, 4), lambda count, seed: _faulty(blinks=int(count))(seed),
        {"blink_rate": "rises"},
    ),
    Fault(
        "skeleton displaced", "pixels", (0, 1, 2, 4, 8),
        lambda shift, seed: _faulty(skeleton_shift=(float(shift), 0.0))(seed),
        {"pose_pck": "falls", "pose_oks": "falls"},
    ),
    Fault("frozen", "share", (0, 0.25, 0.5, 1), _frozen, {"freeze_ratio": "rises", "dynamic_degree": "falls"}),
    Fault("black", "share", (0, 0.25, 0.5, 1), _blackened, {"black_ratio": "rises"}),
    Fault("silent", "share", (0, 0.25, 0.5, 0.9), _silenced, {"silent_ratio": "rises"}),
)  # fmt: skip


def calibrate(*, portraits: int = 4, faults: Sequence[Fault] = FAULTS) -> list[Curve]:
    """Scores portraits at every level of every fault: a curve a fault and metric."""
    cells = [(fault, level, SEED + number) for fault in faults for level in fault.levels for number in range(portraits)]
    found: dict[tuple[str, float], list[dict[str, Measurement | NotScored]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for fault, level, seed in track(cells, "Calibrating", total=len(cells)):
            values = _score(fault.damage(level, seed), list(fault.expected), Path(folder))
            found.setdefault((fault.name, level), []).append(values)
    return [
        _curve(fault, metric, [[values[metric] for values in found[fault.name, level]] for level in fault.levels])
        for fault in faults
        for metric in fault.expected
    ]


def has_shape(levels: Sequence[float], means: Sequence[float], expected: Shape) -> bool:
    """Whether means over levels rise, fall, or follow the levels within 1."""
    if expected in ("follows", "opposes"):
        sign = 1 if expected == "follows" else -1
        moved = [sign * (mean - means[0]) - (level - levels[0]) for level, mean in zip(levels, means, strict=True)]
        return all(abs(off) <= 1 for off in moved)
    steps = np.diff(means) if expected == "rises" else -np.diff(means)
    slack = 1e-6 + 0.02 * float(np.ptp(means))  # two levels may read alike
    return bool((steps >= -slack).all() and np.ptp(means) > 0)


def _score(portrait: Portrait, metrics: list[str], folder: Path) -> dict[str, Measurement | NotScored]:
    np.savez(folder / "keypoints.npz", keypoints=portrait.keypoints)
    condition = {"synthetic": True, "keypoints": str(folder / "keypoints.npz")}
    height, width = portrait.frames.shape[1:3]
    scored = ScoredClip(FPS, height, width, portrait.audio, condition)
    return measure(scored, array_frames(portrait.frames, FPS), find_metrics(metrics))


def _curve(fault: Fault, metric: str, cells: list[list[Measurement | NotScored]]) -> Curve:
    refused = [cell for row in cells for cell in row if isinstance(cell, NotScored)]
    values = [[cell.value for cell in row if isinstance(cell, Measurement)] for row in cells]
    means = tuple(float(np.mean(row)) if row else float("nan") for row in values)
    known = not np.isnan(means).any()
    return Curve(
        fault=fault.name,
        unit=fault.unit,
        metric=metric,
        expected=fault.expected[metric],
        levels=fault.levels,
        means=means,
        holds=known and has_shape(fault.levels, means, fault.expected[metric]),
        error=None if known else str(refused[0]),
    )
