"""Networks loaded once a process: the two for synthetic portraits that ship with prefkit, and the user's SyncNet."""

import functools
from pathlib import Path

import numpy as np

from prefkit.metrics.landmark_network import LandmarkNetwork, load_landmark_network
from prefkit.metrics.syncnet import SyncEmbedder, load_syncnet, make_embedder
from prefkit.metrics.weights import SHIPPED_LANDMARKS, SHIPPED_LIPSYNC

# The square of a 64 × 64 portrait in which the mouth moves; the lip-sync network reads it as a face crop.
MOUTH_TOP, MOUTH_LEFT, MOUTH_SIZE = 22, 16, 32


def mouth_region(frames: np.ndarray) -> np.ndarray:
    """uint8 portraits [T, 64, 64, 3] -> the region [T, 32, 32, 3] that the lip-sync network reads."""
    return frames[:, MOUTH_TOP : MOUTH_TOP + MOUTH_SIZE, MOUTH_LEFT : MOUTH_LEFT + MOUTH_SIZE]


@functools.cache
def shipped_lipsync_network() -> SyncEmbedder:
    """The lip-sync network for `mouth_region`s of synthetic portraits."""
    return make_embedder(load_syncnet(SHIPPED_LIPSYNC))


@functools.cache
def shipped_landmark_network() -> LandmarkNetwork:
    """The landmark network for synthetic portraits."""
    return load_landmark_network(SHIPPED_LANDMARKS)


@functools.cache
def user_syncnet(path: Path) -> SyncEmbedder:
    """The SyncNet of a weights file that the user names."""
    return make_embedder(load_syncnet(path))
