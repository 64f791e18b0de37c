"""One synthetic talking portrait: the clip, what drives it, and the truth about it."""

from dataclasses import dataclass, replace

import numpy as np

from prefkit.synthetic.drawing import draw_clip
from prefkit.synthetic.geometry import keypoints, landmarks
from prefkit.synthetic.identity import Identity, make_identity
from prefkit.synthetic.performance import Performance, perform
from prefkit.synthetic.skeleton import draw_skeleton
from prefkit.synthetic.speech import CONTROL_RATE, SAMPLE_RATE, Speech, make_speech

FPS = 25.0
MARGIN = 0.5  # seconds of speech before and after the clip, so that a late sound is still speech


@dataclass(frozen=True)
class Faults:
    """What is wrong with a clip, for tests and calibration.

    Attributes:
        audio_lag: frames by which the sound comes late (negative: early), at most 12.
        mouth_gain: factor on the mouth's aperture; 0 mutes it.
        jitter: standard deviation in pixels of a shift of the whole head, drawn anew each frame.
        frozen_expression: eyes and brows never move.
        blinks: exactly so many, evenly spaced, instead of the person's own.
        skeleton_shift: pixels (x, y) by which the driving skeleton is displaced.
    """

    audio_lag: int = 0
    mouth_gain: float = 1.0
    jitter: float = 0.0
    frozen_expression: bool = False
    blinks: int | None = None
    skeleton_shift: tuple[float, float] = (0.0, 0.0)


NO_FAULTS = Faults()


@dataclass(frozen=True)
class Portrait:
    """A clip of T frames at 25 fps, 64 × 64 pixels, and the truth about it.

    Attributes:
        identity: who it is.
        frames: uint8 [T, 64, 64, 3] RGB.
        reference: uint8 [64, 64, 3]: the same person at rest.
        audio: int16 [T * 640], mono, 16 kHz.
        long_audio: int16, the same speech with `MARGIN` seconds more on either side.
        skeleton: uint8 [T, 256, 256, 3] RGB, what drives body and head, at four times the size.
        landmarks: float32 [T, 68, 2] in pixels.
        keypoints: float32 [T, 18, 3]: those drawn in `skeleton`.
        aperture: float32 [T] in 0–1: how far the drawn mouth is open.
        visemes: int64 [T], indices into `prefkit.synthetic.speech.VISEMES`.
        eye_opening: float32 [T] in 0–1.
        brow: float32 [T] in pixels.
        head_pose: float32 [T, 4]: shift right, shift down, roll, yaw.
    """

    identity: Identity
    frames: np.ndarray
    reference: np.ndarray
    audio: np.ndarray
    long_audio: np.ndarray
    skeleton: np.ndarray
    landmarks: np.ndarray
    keypoints: np.ndarray
    aperture: np.ndarray
    visemes: np.ndarray
    eye_opening: np.ndarray
    brow: np.ndarray
    head_pose: np.ndarray


def make_portrait(
    seed: int, *, identity: int | None = None, num_frames: int = 25, faults: Faults = NO_FAULTS
) -> Portrait:
    """Makes the portrait of this seed, always the same; `identity` defaults to the seed.

    Raises:
        ValueError: the lag is larger than the margin of speech around the clip.
    """
    if abs(faults.audio_lag) > MARGIN * FPS:
        raise ValueError(f"audio_lag is {faults.audio_lag} frames, expected at most {int(MARGIN * FPS)}")
    person = make_identity(seed if identity is None else identity)
    rng = np.random.default_rng([12, seed])
    speech = make_speech(rng, num_frames / FPS + 2 * MARGIN, person.pitch, person.vocal_tract)
    at = ((np.arange(num_frames) + 0.5) / FPS + MARGIN) * CONTROL_RATE
    grid = np.arange(len(speech.aperture))
    aperture, width, loudness = (np.interp(at, grid, c) for c in (speech.aperture, speech.width, speech.loudness))
    truth = perform(rng, aperture, width, loudness, FPS)
    shown = _with_faults(truth, faults, np.random.default_rng([13, seed]))
    face, body = landmarks(person, shown), keypoints(person, shown)
    driving = body + np.array([*faults.skeleton_shift, 0], np.float32)
    return Portrait(
        identity=person,
        frames=draw_clip(person, face, body),
        reference=_reference(person),
        audio=_cut(speech, num_frames, faults.audio_lag),
        long_audio=speech.audio,
        skeleton=draw_skeleton(driving),
        landmarks=face,
        keypoints=driving,
        aperture=shown.aperture.astype(np.float32),
        visemes=speech.visemes[at.astype(int)],
        eye_opening=shown.eye_opening.astype(np.float32),
        brow=shown.brow.astype(np.float32),
        head_pose=shown.head.astype(np.float32),
    )


def _cut(speech: Speech, num_frames: int, lag: int) -> np.ndarray:
    start = round((MARGIN - lag / FPS) * SAMPLE_RATE)
    return speech.audio[start : start + round(num_frames / FPS * SAMPLE_RATE)]


def _with_faults(truth: Performance, faults: Faults, rng: np.random.Generator) -> Performance:
    shown = replace(truth, aperture=np.clip(faults.mouth_gain * truth.aperture, 0, 1))
    if faults.frozen_expression:
        shown = replace(shown, eye_opening=np.ones_like(truth.eye_opening), brow=np.zeros_like(truth.brow))
    if faults.blinks is not None:
        shown = replace(shown, eye_opening=_even_blinks(len(truth.eye_opening), faults.blinks))
    if faults.jitter:
        shift = faults.jitter * rng.standard_normal((len(truth.head), 2))
        shown = replace(shown, head=truth.head + np.pad(shift, ((0, 0), (0, 2))))
    return shown


def _even_blinks(frames: int, blinks: int) -> np.ndarray:
    """[T] in 0–1: lids that shut for three frames around the middle of each of so many parts of the clip."""
    middles = (np.arange(blinks) + 0.5) * frames / max(blinks, 1)
    distance = np.abs(np.arange(frames)[:, None] - middles).min(axis=1, initial=frames)
    return np.clip((distance - 1.5) / 1.5, 0, 1)


def _reference(person: Identity) -> np.ndarray:
    still = Performance(
        aperture=np.zeros(1),
        width=np.ones(1),
        eye_opening=np.ones(1),
        brow=np.zeros(1),
        head=np.zeros((1, 4)),
        body=np.zeros((1, 2)),
        wrists=np.array([[[13.0, 74.0], [51.0, 74.0]]]),
    )
    return draw_clip(person, landmarks(person, still), keypoints(person, still))[0]
