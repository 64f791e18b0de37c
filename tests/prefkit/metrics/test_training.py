"""The training script of the shipped networks: a few steps write weights that load, and a card."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from prefkit.metrics.landmark_network import LandmarkNetwork, load_landmark_network
from prefkit.metrics.syncnet import load_syncnet
from prefkit.metrics.training.clips import cached_clips, degrade, fit_autoencoder
from prefkit.metrics.training.landmarks import _displaced
from prefkit.metrics.training.lipsync import matching_loss


@pytest.mark.parametrize(("network", "load"), [("landmarks", load_landmark_network), ("lipsync", load_syncnet)])
def test_training_writes_weights_and_card(tmp_path, network, load):
    sizes = ["--clips", "8", "--steps", "2", "--held-out", "1"]
    command = [sys.executable, "-m", "prefkit.metrics.training", network, *sizes, "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert load(tmp_path / "model.safetensors").config.variant == "synthetic-portraits"
    assert f"`python -m prefkit.metrics.training {network} --clips 8" in (tmp_path / "README.md").read_text()


def test_kept_portraits_are_used_again_and_degrading_keeps_their_shape(tmp_path):
    first = cached_clips(tmp_path / "clips.npz", 10_000_000, 2)
    again = cached_clips(tmp_path / "clips.npz", 10_000_000, 2)
    np.testing.assert_array_equal(first.frames, again.frames)
    autoencoder = fit_autoencoder(first.frames)
    for seed in range(4):
        worse = degrade(first.frames[0], np.random.default_rng(seed), autoencoder)
        assert worse.shape == first.frames[0].shape and worse.dtype == np.uint8
        assert np.abs(worse.astype(int) - first.frames[0]).mean() < 30


def test_displaced_landmarks_stay_on_what_they_mark():
    frames = -torch.ones(8, 3, 64, 64)
    landmarks = torch.full((8, 68, 2), 30.5)
    frames[:, :, 29:32, 29:32] = 1.0  # a dot around the pixel whose middle is at 30.5
    shown, moved = _displaced(frames, landmarks, np.random.default_rng(0))
    mass = shown.mean(dim=1) + 1
    grid = torch.arange(64) + 0.5
    x = (mass.sum(dim=1) * grid).sum(dim=1) / mass.sum(dim=(1, 2))
    y = (mass.sum(dim=2) * grid).sum(dim=1) / mass.sum(dim=(1, 2))
    torch.testing.assert_close(torch.stack([x, y], dim=1), moved[:, 0], atol=0.1, rtol=0)
    assert (moved[:, 0] - 30.5).abs().max() > 1


def test_matching_loss_wants_each_window_beside_its_own_sound():
    embeddings = 5 * torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    assert matching_loss(embeddings, embeddings) < 0.01
    assert matching_loss(embeddings, embeddings.roll(1, dims=1)) > 5
    assert LandmarkNetwork()(torch.zeros(1, 3, 64, 64)).shape == (1, 68, 2)
