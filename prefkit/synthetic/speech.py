"""Speech as syllables: a waveform of formants and closures, and the mouth that goes with it."""

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16_000
CONTROL_RATE = 200  # Hz, of the curves that drive both the sound and the mouth

# vowel -> (aperture 0–1, relative mouth width, first three formants in Hz); formants after Peterson & Barney 1952
VOWELS = {
    "a": (1.00, 1.00, (730, 1090, 2440)),
    "e": (0.60, 1.12, (530, 1840, 2480)),
    "i": (0.35, 1.22, (270, 2290, 3010)),
    "o": (0.75, 0.78, (570, 840, 2410)),
    "u": (0.40, 0.66, (300, 870, 2240)),
}
# consonant -> (aperture, loudness of the voice, loudness of the noise)
CONSONANTS = {
    "m": (0.0, 0.25, 0.0),
    "b": (0.0, 0.02, 0.0),
    "p": (0.0, 0.0, 0.05),
    "d": (0.22, 0.10, 0.05),
    "s": (0.15, 0.0, 0.30),
}
VISEMES = ("silence", *CONSONANTS, *VOWELS)


@dataclass(frozen=True)
class Speech:
    """Sound and the mouth's true movement.

    Attributes:
        audio: int16 [N], mono, 16 kHz.
        aperture: [C] in 0–1 at `CONTROL_RATE`; 0 is closed lips.
        width: [C] mouth width relative to rest.
        loudness: [C] in 0–1.
        visemes: int [C], indices into `VISEMES`.
    """

    audio: np.ndarray
    aperture: np.ndarray
    width: np.ndarray
    loudness: np.ndarray
    visemes: np.ndarray


@dataclass(frozen=True)
class _Segment:
    viseme: str
    steps: int
    aperture: float
    width: float
    voice: float
    noise: float
    formants: tuple[float, float, float]


def make_speech(rng: np.random.Generator, seconds: float, pitch: float, vocal_tract: float) -> Speech:
    """Says random syllables for `seconds` with a voice of `pitch` Hz and formants scaled by `vocal_tract`."""
    steps = round(seconds * CONTROL_RATE)
    segments = _babble(rng, steps)

    def curve(values: list, smoothing: float) -> np.ndarray:
        return _smooth(np.repeat(values, [segment.steps for segment in segments])[:steps], smoothing)

    aperture = np.clip(curve([segment.aperture for segment in segments], 0.022), 0, 1)
    voice = curve([segment.voice for segment in segments], 0.010)
    noise = curve([segment.noise for segment in segments], 0.008)
    formants = [vocal_tract * curve([segment.formants[i] for segment in segments], 0.020) for i in range(3)]
    pitch_curve = pitch * (1 + 0.12 * np.interp(np.arange(steps), *_knots(rng, steps, 60)))
    return Speech(
        audio=_synthesise(rng, voice, noise, formants, pitch_curve),
        aperture=aperture,
        width=curve([segment.width for segment in segments], 0.025),
        loudness=np.clip(voice, 0, 1),
        visemes=curve([VISEMES.index(segment.viseme) for segment in segments], 0).astype(np.int64),
    )


def _babble(rng: np.random.Generator, steps: int) -> list[_Segment]:
    """Consonant–vowel syllables with pauses between some of them, at least `steps` long."""
    segments: list[_Segment] = []
    neutral = VOWELS["e"][2]
    while sum(segment.steps for segment in segments) < steps:
        if rng.random() < 0.15 or not segments:
            segments.append(_Segment("silence", int(rng.integers(8, 50)), 0.0, 1.0, 0.0, 0.0, neutral))
        vowel = list(VOWELS)[rng.integers(len(VOWELS))]
        aperture, width, formants = VOWELS[vowel]
        consonant = list(CONSONANTS)[rng.integers(len(CONSONANTS))]
        closed, voice, noise = CONSONANTS[consonant]
        segments.append(_Segment(consonant, int(rng.integers(14, 24)), closed, 0.5 + width / 2, voice, noise, formants))
        stress = rng.uniform(0.75, 1.0)
        segments.append(
            _Segment(vowel, int(rng.integers(20, 46)), aperture * stress, width, 0.85 * stress, 0.0, formants)
        )
    return segments


def _synthesise(
    rng: np.random.Generator, voice: np.ndarray, noise: np.ndarray, formants: list[np.ndarray], pitch: np.ndarray
) -> np.ndarray:
    """Adds up harmonics under a formant envelope, and filtered noise; returns int16."""
    count = len(voice) * SAMPLE_RATE // CONTROL_RATE
    at = np.arange(count) * CONTROL_RATE / SAMPLE_RATE
    grid = np.arange(len(voice))
    phase = 2 * np.pi * np.cumsum(np.interp(at, grid, pitch)) / SAMPLE_RATE
    sound = np.zeros(count)
    for harmonic in range(1, int(3600 / pitch.mean()) + 1):
        frequency = harmonic * pitch
        envelope = sum(
            gain / (1 + ((frequency - formant) / width) ** 2)
            for gain, width, formant in zip((1.0, 0.6, 0.25), (90, 120, 180), formants, strict=True)
        )
        sound += np.interp(at, grid, envelope * voice) * np.sin(harmonic * phase)
    hiss = np.diff(rng.standard_normal(count + 1)) * np.interp(at, grid, noise)
    floor = 0.002 * rng.standard_normal(count)
    return np.clip(32767 * (0.22 * sound + 0.35 * hiss + floor), -32767, 32767).astype(np.int16)


def _smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing with a standard deviation of `seconds`; edges are held."""
    if seconds == 0:
        return np.asarray(values)
    sigma = seconds * CONTROL_RATE
    reach = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(np.asarray(values, float), reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _knots(rng: np.random.Generator, steps: int, spacing: int) -> tuple[np.ndarray, np.ndarray]:
    """Random values at regular knots, to interpolate between."""
    at = np.arange(0, steps + 2 * spacing, spacing)
    return at, rng.uniform(-1, 1, len(at))
