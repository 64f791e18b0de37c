"""How a person moves while speaking: blinks, brows, head, shoulders and arms, frame by frame."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Performance:
    """Movement curves, one value a frame. Lengths are pixels of a 64 × 64 frame, angles radians.

    Attributes:
        aperture: [T] in 0–1.
        width: [T] mouth width relative to rest.
        eye_opening: [T] in 0–1; 0 is shut.
        brow: [T] how far the brows are raised.
        head: [T, 4] shift right, shift down, roll, yaw (as a shift of the features in pixels).
        body: [T, 2] shift of neck and shoulders.
        wrists: [T, 2, 2] x, y of the wrists on the left and right of the picture.
    """

    aperture: np.ndarray
    width: np.ndarray
    eye_opening: np.ndarray
    brow: np.ndarray
    head: np.ndarray
    body: np.ndarray
    wrists: np.ndarray


def perform(
    rng: np.random.Generator, aperture: np.ndarray, width: np.ndarray, loudness: np.ndarray, fps: float
) -> Performance:
    """Adds everything but the mouth to a mouth that is given ([T] each)."""
    frames = len(aperture)
    sway = _smooth_noise(rng, frames, fps, 0.35)
    head = np.stack(
        [
            3.0 * sway + 0.8 * _smooth_noise(rng, frames, fps, 0.9),
            1.2 * _smooth_noise(rng, frames, fps, 0.5),
            0.09 * _smooth_noise(rng, frames, fps, 0.4),
            1.6 * _smooth_noise(rng, frames, fps, 0.4),
        ],
        axis=1,
    )
    body = np.stack([1.2 * sway, 0.4 * _smooth_noise(rng, frames, fps, 0.4)], axis=1)
    return Performance(
        aperture=aperture,
        width=width,
        eye_opening=_blinks(rng, frames, fps),
        brow=1.2 * _smooth_noise(rng, frames, fps, 0.6) + 0.8 * loudness,
        head=head,
        body=body,
        wrists=np.stack([_wrist(rng, frames, fps, side) for side in (-1, 1)], axis=1),
    )


def _wrist(rng: np.random.Generator, frames: int, fps: float, side: int) -> np.ndarray:
    """[T, 2]; a hand rests below the picture or gestures in its lower corner."""
    rest = 56 if rng.random() < 0.5 else 74
    x = 32 + side * (19 + 2.5 * _smooth_noise(rng, frames, fps, 0.7))
    y = rest + 4.0 * _smooth_noise(rng, frames, fps, 0.8)
    return np.stack([x, y], axis=1)


def _blinks(rng: np.random.Generator, frames: int, fps: float) -> np.ndarray:
    """Blinks of about a fifth of a second, 0.7 a second on average, never overlapping."""
    opening: np.ndarray = np.ones(frames)
    time = rng.exponential(1 / 0.7) - 0.4
    while time < frames / fps:
        distance = np.abs(np.arange(frames) / fps - time) / 0.11
        opening = np.minimum(opening, np.clip(1.6 * distance - 0.35, 0, 1))
        time += 0.45 + rng.exponential(1 / 0.7)
    return opening


def _smooth_noise(rng: np.random.Generator, frames: int, fps: float, cutoff: float) -> np.ndarray:
    """A few slow sines of random phase, up to about ±1; `cutoff` is the middle frequency in Hz."""
    time = np.arange(frames) / fps
    frequencies = cutoff * rng.uniform(0.5, 1.6, 4)
    phases = rng.uniform(0, 2 * np.pi, 4)
    return np.sin(2 * np.pi * frequencies * time[:, None] + phases).mean(axis=1) * 1.6
