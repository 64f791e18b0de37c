"""Synthetic portraits as latents, for pretraining the tiny model: written once, in resumable shards."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from prefkit.backbones.audio_features import SAMPLE_RATE, audio_features
from prefkit.backbones.autoencoder import PatchAutoencoder, to_pixels
from prefkit.backbones.tiny import skeleton_pixels
from prefkit.progress import track
from prefkit.synthetic.portrait import FPS, MARGIN, Portrait, make_portrait
from prefkit.workspace import atomic_write

FIRST_SEED = 1_000_000  # apart from those that the demo and the metrics' networks use
SHARD = 200
LAG = int(MARGIN * FPS)  # frames of speech kept on either side of the clip


def fit_autoencoder(clips: int = 400, latent_channels: int = 64) -> PatchAutoencoder:
    """Fits the autoencoder to portraits, and to single skeleton frames, which it will encode alone.

    Patches of the mouth count twenty times, of the eyes six times: they are few, and lip-sync lives in them.
    """
    portraits = [make_portrait(FIRST_SEED + i) for i in track(range(clips), "clips for the autoencoder")]
    frames = to_pixels(np.stack([portrait.frames for portrait in portraits]))
    skeletons = [skeleton_pixels(portrait.skeleton[::6]) for portrait in portraits]
    stills = torch.cat([*skeletons, to_pixels(np.stack([portrait.reference[None] for portrait in portraits]))])
    face = torch.stack([face_weight(portrait, eyes=6.0, mouth=20.0) for portrait in portraits])
    autoencoder = PatchAutoencoder(latent_channels=latent_channels)
    autoencoder.fit([frames, stills], [face, torch.ones(len(stills), 1, 8, 8)])
    return autoencoder


def prepare(folder: Path, autoencoder_folder: Path, clips: int, workers: int) -> dict[str, torch.Tensor]:
    """Encodes `clips` portraits, or reads what an earlier call encoded.

    Returns:
        float16 tensors: latents [N, C, 7, 8, 8], reference [N, C, 1, 8, 8], skeleton [N, C, 25, 8, 8],
        audio [N, 25 + 2 · LAG, 32], weight [N, 1, 7, 8, 8] (more where the mouth and the eyes are).
    """
    shards = [folder / f"shard-{number:04d}.safetensors" for number in range(-(-clips // SHARD))]
    missing = [shard for shard in shards if not shard.exists()]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_write_shard, shard, autoencoder_folder) for shard in missing]
        for job in track(jobs, "encoding portraits"):
            job.result()
    parts = [load_file(shard) for shard in shards]
    return {name: torch.cat([part[name] for part in parts])[:clips] for name in parts[0]}


def _write_shard(shard: Path, autoencoder_folder: Path) -> None:
    torch.set_num_threads(1)
    autoencoder = PatchAutoencoder.from_pretrained(autoencoder_folder)
    first = FIRST_SEED + SHARD * int(shard.stem.split("-")[1])
    rows = [_encode(make_portrait(seed), autoencoder) for seed in range(first, first + SHARD)]
    with atomic_write(shard) as temporary:
        save_file({name: torch.stack([row[name] for row in rows]) for name in rows[0]}, temporary)


def _encode(portrait: Portrait, autoencoder: PatchAutoencoder) -> dict[str, torch.Tensor]:
    encode = autoencoder.encode
    skeleton = encode(skeleton_pixels(portrait.skeleton))[:, :, 0].transpose(0, 1)
    margin = round((MARGIN - LAG / FPS) * SAMPLE_RATE)
    audio = portrait.long_audio[margin : len(portrait.long_audio) - margin]
    rows = {
        "latents": encode(to_pixels(portrait.frames[None]))[0],
        "reference": encode(to_pixels(portrait.reference[None, None]))[0],
        "skeleton": skeleton,
        "audio": audio_features(audio, FPS),
    }
    rows["weight"] = face_weight(portrait, eyes=2.0, mouth=4.0)
    return {name: row.half().contiguous() for name, row in rows.items()}


def face_weight(portrait: Portrait, eyes: float, mouth: float) -> torch.Tensor:
    """[1, 7, 8, 8]: `mouth` where the mouth is in a latent cell, `eyes` where an eye is, 1 elsewhere."""
    weight = torch.ones(25, 8, 8)
    for first, last, value in ((36, 42, eyes), (42, 48, eyes), (48, 68, mouth)):
        points = portrait.landmarks[:, first:last]
        low = np.clip(np.floor((points.min(axis=1) - 1) / 8), 0, 7).astype(int)
        high = np.clip(np.floor((points.max(axis=1) + 1) / 8), 0, 7).astype(int)
        for frame in range(25):
            weight[frame, low[frame, 1] : high[frame, 1] + 1, low[frame, 0] : high[frame, 0] + 1] = value
    groups = torch.cat([weight[:1].expand(3, -1, -1), weight]).unflatten(0, (7, 4))
    return groups.amax(dim=1)[None]
