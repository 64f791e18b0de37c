"""Trains the landmark network on frames of synthetic portraits with their true landmarks."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.metrics.audio_visual import energy_envelope, mouth_sound_lag
from prefkit.metrics.landmark_network import LandmarkNetwork, as_input, predict_landmarks
from prefkit.metrics.landmarks import brow_height, count_blinks, eye_aspect_ratio, mouth_aperture
from prefkit.metrics.training.clips import REPORT_EVERY, TrainingClips, degrade
from prefkit.progress import track

CLIPS_PER_BATCH = 4
FRAMES_PER_CLIP = 16
LEARNING_RATE = 4e-3
SHUT_EYES = 5.0  # times as often as others: an eye is shut in few frames
SHAPE_WEIGHT = 0.3
# Point under point: two places of each eye, three of the inner lips.
UPPER, LOWER = torch.tensor([37, 38, 43, 44, 61, 62, 63]), torch.tensor([41, 40, 47, 46, 67, 66, 65])


def train_landmark_network(
    clips: TrainingClips, autoencoder: PatchAutoencoder, *, steps: int, seed: int
) -> tuple[LandmarkNetwork, list[float]]:
    """Trains from scratch; returns the network and the loss of every step (L1 in pixels plus the shape's)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([1, seed])
    network = LandmarkNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    for frames, truth in track(_batches(clips, autoencoder, steps, rng), "Training landmarks", total=steps):
        found = network.train()(frames) * network.config.frame_size
        loss = (found - truth).abs().mean() + SHAPE_WEIGHT * functional.mse_loss(_shape(found), _shape(truth))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if len(losses) % REPORT_EVERY == 0:
            print(f"step {len(losses)}: loss {np.mean(losses[-REPORT_EVERY:]):.3f}", flush=True)
    return network.eval(), losses


def _shape(landmarks: Tensor) -> Tensor:
    """What expression is read from, in pixels: openings of eyes and lips, heights of the brows, [B, 9].

    Squared errors of these teach the rare blink, which the mean absolute error of points gives up on.
    """
    openings = landmarks[:, LOWER] - landmarks[:, UPPER]
    brows = torch.stack([landmarks[:, 17:22].mean(dim=1), landmarks[:, 22:27].mean(dim=1)], dim=1)
    corners = torch.stack([landmarks[:, [36, 39]].mean(dim=1), landmarks[:, [42, 45]].mean(dim=1)], dim=1)
    return torch.cat([openings, corners - brows], dim=1)[..., 1]


def _batches(
    clips: TrainingClips, autoencoder: PatchAutoencoder, steps: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    shut = np.stack([eye_aspect_ratio(landmarks) for landmarks in clips.landmarks]) < 0.3
    for _ in range(steps):
        frames, truth = [], []
        for clip in rng.choice(len(clips.frames), CLIPS_PER_BATCH, replace=False):
            likely = 1 + (SHUT_EYES - 1) * shut[clip]
            chosen = rng.choice(len(likely), FRAMES_PER_CLIP, replace=False, p=likely / likely.sum())
            frames.append(degrade(clips.frames[clip], rng, autoencoder)[chosen])
            truth.append(clips.landmarks[clip, chosen])
        yield _displaced(
            as_input(torch.from_numpy(np.concatenate(frames))), torch.from_numpy(np.concatenate(truth)), rng
        )


def _displaced(frames: Tensor, landmarks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turns, scales and shifts every frame [B, 3, S, S] and its landmarks [B, 68, 2] in pixels."""
    batch, size = len(frames), frames.shape[-1]
    angle, scale = np.radians(rng.normal(0, 6, batch)), np.exp(rng.normal(0, 0.06, batch))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(batch, 2, 2)
    matrix = torch.from_numpy(turn * scale[:, None, None]).float()  # from shown to original, around the middle
    shift = torch.from_numpy(rng.normal(0, 2.0, (batch, 2)) / (size / 2)).float()
    grid = functional.affine_grid(
        torch.cat([matrix, shift[..., None]], dim=-1), list(frames.shape), align_corners=False
    )
    shown = functional.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    centred = landmarks / (size / 2) - 1 - shift[:, None]
    moved = torch.linalg.solve(matrix, centred.transpose(1, 2)).transpose(1, 2)
    return shown.contiguous(memory_format=torch.channels_last), (moved + 1) * (size / 2)


def evaluate_landmark_network(
    network: LandmarkNetwork, clips: TrainingClips, autoencoder: PatchAutoencoder, seed: int = 0
) -> dict[str, float]:
    """Errors on clips it was not trained on, as drawn and degraded."""
    rng = np.random.default_rng([2, seed])
    report = {}
    for name in ("drawn", "degraded"):
        errors, apertures, brows, blinks, correlations = [], [], [], [], []
        for frames, truth, audio in zip(clips.frames, clips.landmarks, clips.audio, strict=True):
            shown = degrade(frames, rng, autoencoder) if name == "degraded" else frames
            found = predict_landmarks(shown, network)
            true = truth.astype(np.float64)
            errors.append(np.linalg.norm(found - true, axis=-1).mean())
            apertures.append(np.corrcoef(mouth_aperture(found), mouth_aperture(true))[0, 1])
            brows.append(np.corrcoef(brow_height(found), brow_height(true))[0, 1])
            blinks.append(count_blinks(eye_aspect_ratio(found), 25.0) == count_blinks(eye_aspect_ratio(true), 25.0))
            envelope = energy_envelope(audio, len(frames), 25.0)
            correlations.append(mouth_sound_lag(mouth_aperture(found), envelope).correlation_at_zero)
        report[f"mean error, {name} (px)"] = float(np.mean(errors))
        report[f"correlation of the aperture with the true one, {name}"] = float(np.mean(apertures))
        report[f"correlation of the brows' height with the true one, {name}"] = float(np.mean(brows))
        report[f"clips with the right number of blinks, {name}"] = float(np.mean(blinks))
        report[f"av_corr0, {name}"] = float(np.mean(correlations))
    return report
