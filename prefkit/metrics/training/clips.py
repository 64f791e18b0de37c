"""What the networks are trained on: synthetic portraits, and what imperfect models and codecs make of them."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from prefkit.backbones.autoencoder import PatchAutoencoder, to_frames, to_pixels
from prefkit.progress import track
from prefkit.synthetic.portrait import make_portrait
from prefkit.workspace import atomic_write

NUM_FRAMES = 50  # two seconds
TRAINING_SEEDS = 10_000_000  # upward; nothing else draws portraits there
HELD_OUT_SEEDS = 20_000_000
COMPONENTS = 64
REPORT_EVERY = 100  # steps


@dataclass(frozen=True)
class TrainingClips:
    """n clips with their truth.

    Attributes:
        frames: uint8 [n, T, 64, 64, 3] RGB.
        audio: int16 [n, T * 640].
        landmarks: float32 [n, T, 68, 2] in pixels.
    """

    frames: np.ndarray
    audio: np.ndarray
    landmarks: np.ndarray


def make_clips(first_seed: int, count: int) -> TrainingClips:
    """Draws the portraits of seeds `first_seed` … `first_seed + count - 1`."""
    portraits = [
        (portrait.frames, portrait.audio, portrait.landmarks)
        for seed in track(range(first_seed, first_seed + count), "Drawing portraits", total=count)
        for portrait in [make_portrait(seed, num_frames=NUM_FRAMES)]
    ]
    frames, audio, landmarks = (np.stack(arrays) for arrays in zip(*portraits, strict=True))
    return TrainingClips(frames, audio, landmarks)


def cached_clips(path: Path, first_seed: int, count: int) -> TrainingClips:
    """`make_clips`, kept in the file `path` (npz) for the next time."""
    if path.exists():
        with np.load(path) as kept:
            if kept["seeds"].tolist() == [first_seed, count]:
                return TrainingClips(kept["frames"], kept["audio"], kept["landmarks"])
    clips = make_clips(first_seed, count)
    with atomic_write(path) as temporary:
        np.savez(
            temporary,
            seeds=[first_seed, count],
            frames=clips.frames,
            audio=clips.audio,
            landmarks=clips.landmarks,
        )
    return clips


def fit_autoencoder(frames: np.ndarray) -> PatchAutoencoder:
    """The kind of autoencoder through which the tiny model sees, fitted to uint8 clips [n, T, 64, 64, 3]."""
    autoencoder = PatchAutoencoder(latent_channels=COMPONENTS)
    # frames repeated at the end make 4k + 1
    padded = np.concatenate([frames, frames[:, -1:].repeat(-(frames.shape[1] - 1) % 4, axis=1)], axis=1)
    pixels = to_pixels(padded)
    autoencoder.fit([pixels], [torch.ones(len(pixels), (pixels.shape[2] - 1) // 4 + 1, 8, 8)])
    return autoencoder.eval()


def degrade(frames: np.ndarray, rng: np.random.Generator, autoencoder: PatchAutoencoder) -> np.ndarray:
    """Makes a clip look generated, encoded and decoded; uint8 [T, H, W, 3] -> the same.

    Each with some probability: few and noisy latents of the patch autoencoder, another colour, blur, noise,
    and the blocks of a lossy codec.
    """
    if rng.random() < 0.6:
        frames = _through_latents(frames, rng, autoencoder)
    if rng.random() < 0.5:
        gain, shift = rng.uniform(0.85, 1.15, 3), rng.uniform(-15, 15, 3)
        frames = np.clip(frames * gain + shift, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        blur = ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))
        frames = np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in frames])
    if rng.random() < 0.4:
        noise = rng.uniform(1, 7) * rng.standard_normal(frames.shape, dtype=np.float32)
        frames = np.clip(frames + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.integers(35, 95))
        frames = np.stack([_jpeg(frame, quality) for frame in frames])
    return frames


@torch.inference_mode()
def _through_latents(frames: np.ndarray, rng: np.random.Generator, autoencoder: PatchAutoencoder) -> np.ndarray:
    missing = -(len(frames) - 1) % 4  # it reads 4k + 1 frames
    padded = np.concatenate([frames, frames[len(frames) - missing :]])
    latents = autoencoder.encode(to_pixels(padded)[None])
    kept = int(rng.choice([24, 32, 48, COMPONENTS]))
    noise = rng.uniform(0, 0.25) * rng.standard_normal(tuple(latents.shape), dtype=np.float32)
    latents = latents + torch.from_numpy(noise)
    latents[:, kept:] = 0
    return to_frames(autoencoder.decode(latents).sample)[0, : len(frames)]


def _jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
