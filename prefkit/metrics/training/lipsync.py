"""Trains the small lip-sync network: which of the clip's windows of sound belongs to these lips?

The published network learns from pairs that match or do not (contrastive loss). Here every window of lips
chooses among all windows of sound of the same clip, and the other way round (InfoNCE, van den Oord et al.
2018), with the same Euclidean distance that scores a clip: so neighbouring lags are told apart.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.metrics.loaded_networks import MOUTH_LEFT, MOUTH_SIZE, MOUTH_TOP, mouth_region
from prefkit.metrics.sync_distances import Mode
from prefkit.metrics.syncnet import (
    COLUMNS_PER_FRAME,
    SAMPLES_PER_FRAME,
    WINDOW_COLUMNS,
    WINDOW_FRAMES,
    SyncNet,
    SyncNetConfig,
    make_embedder,
    mfcc_columns,
    sync_scores,
)
from prefkit.metrics.training.clips import REPORT_EVERY, TrainingClips, degrade
from prefkit.progress import track

CONFIG = SyncNetConfig(
    frame_size=MOUTH_SIZE,
    audio_widths=(16, 32, 48, 48, 48, 96),
    lip_widths=(24, 48, 64, 64, 64, 96),
    hidden=128,
    embedding=64,
    first_stride=1,
    variant="synthetic-portraits",
)
CLIPS_PER_BATCH = 6
WINDOWS_PER_CLIP = 24
LEARNING_RATE = 2e-3
REACH = 3  # pixels by which the region is displaced


def train_lipsync_network(
    clips: TrainingClips, autoencoder: PatchAutoencoder, *, steps: int, seed: int
) -> tuple[SyncNet, list[float]]:
    """Trains from scratch; returns the network and the loss of every step (log of 24 is chance)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([3, seed])
    network = SyncNet(CONFIG)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    for lips, sound in track(_batches(clips, autoencoder, steps, rng), "Training lip-sync", total=steps):
        network.train()
        lip_embeddings = network.forward_lip(lips).unflatten(0, (-1, WINDOWS_PER_CLIP))
        audio_embeddings = network.forward_aud(sound).unflatten(0, (-1, WINDOWS_PER_CLIP))
        loss = matching_loss(lip_embeddings, audio_embeddings)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % REPORT_EVERY == 0:
            print(f"step {len(losses)}: loss {np.mean(losses[-REPORT_EVERY:]):.3f}", flush=True)
    return network.eval(), losses


def matching_loss(lips: Tensor, sound: Tensor) -> Tensor:
    """InfoNCE in both directions over windows of the same clip, [B, n, D] each; logits are minus distances."""
    logits = -torch.cdist(lips, sound)
    clips, windows, _ = logits.shape
    target = torch.arange(windows).expand(clips, windows)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)) / 2


def _batches(
    clips: TrainingClips, autoencoder: PatchAutoencoder, steps: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    columns = [torch.from_numpy(mfcc_columns(audio)).float() for audio in clips.audio]
    for _ in range(steps):
        lips, sound = [], []
        for clip in rng.choice(len(clips.frames), CLIPS_PER_BATCH, replace=False):
            start = int(rng.integers(clips.frames.shape[1] - WINDOWS_PER_CLIP - WINDOW_FRAMES))
            shown = degrade(clips.frames[clip], rng, autoencoder)
            lips.append(_lip_windows(shown, start, rng))
            windows = columns[clip].unfold(1, WINDOW_COLUMNS, COLUMNS_PER_FRAME)
            sound.append(windows[:, start : start + WINDOWS_PER_CLIP].permute(1, 0, 2).unsqueeze(1))
        yield torch.cat(lips), torch.cat(sound)


def _lip_windows(frames: np.ndarray, start: int, rng: np.random.Generator) -> Tensor:
    """[n, 3, 5, S, S] BGR 0-255: windows of a region displaced by a few pixels, mirrored now and then."""
    top, left = (int(edge + rng.integers(-REACH, REACH + 1)) for edge in (MOUTH_TOP, MOUTH_LEFT))
    frames = frames[start : start + WINDOWS_PER_CLIP + WINDOW_FRAMES - 1]
    region = frames[:, top : top + MOUTH_SIZE, left : left + MOUTH_SIZE, ::-1]
    if rng.random() < 0.5:
        region = region[:, :, ::-1]
    bgr = torch.from_numpy(np.ascontiguousarray(region)).float()
    return bgr.unfold(0, WINDOW_FRAMES, 1).permute(0, 3, 4, 1, 2)


def evaluate_lipsync_network(
    network: SyncNet, clips: TrainingClips, autoencoder: PatchAutoencoder, seed: int = 0
) -> dict[str, float]:
    """How often the lag of clips it was not trained on is found, as drawn and degraded, at 2 s and at 1 s."""
    rng = np.random.default_rng([4, seed])
    embedder = make_embedder(network)
    report = {}
    modes: tuple[Mode, ...] = ("valid", "reference")
    for name in ("drawn", "degraded"):
        shown = [degrade(frames, rng, autoencoder) if name == "degraded" else frames for frames in clips.frames]
        for seconds, length in (("2 s", clips.frames.shape[1]), ("1 s", 25)):
            for mode in modes:
                scores = [
                    sync_scores(mouth_region(frames[:length]), audio[: length * SAMPLES_PER_FRAME], embedder, mode=mode)
                    for frames, audio in zip(shown, clips.audio, strict=True)
                ]
                key = f"{name}, {seconds}, {mode}"
                report[f"offset within 1 frame, {key}"] = float(np.mean([abs(s.offset) <= 1 for s in scores]))
                report[f"sync_c, {key}"] = float(np.mean([s.sync_c for s in scores]))
                report[f"sync_d, {key}"] = float(np.mean([s.sync_d for s in scores]))
    return report
