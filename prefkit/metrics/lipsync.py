"""Lip-sync by SyncNet: Sync-C, Sync-D, offset, and the distance without any shift.

Synthetic portraits are read by the small network that ships with prefkit and knows nothing else; every
row names the network in its details. Other clips are scored only with weights that the user names.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from prefkit.errors import PrefkitError
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages

if TYPE_CHECKING:
    import numpy as np

    from prefkit.metrics.syncnet import SyncEmbedder, SyncEmbeddings, SyncScores

FPS = 25
SYNTHETIC_SIZE = (64, 64)


def _network(scored: ScoredClip) -> tuple["SyncEmbedder", "np.ndarray", dict[str, str]]:
    """The network for this clip, the face crops it reads, and where it comes from."""
    from prefkit.metrics.loaded_networks import mouth_region, shipped_lipsync_network, user_syncnet
    from prefkit.metrics.weights import SHIPPED_LIPSYNC, file_hash

    frames = scored.clip.frames
    if scored.condition.get("synthetic") and frames.shape[1:3] == SYNTHETIC_SIZE:
        embedder, path = shipped_lipsync_network(), SHIPPED_LIPSYNC
        crops = mouth_region(frames)
    elif "syncnet" in scored.weights:
        path = scored.weights["syncnet"]
        embedder, crops = user_syncnet(path), frames
        size = embedder.config.frame_size
        if frames.shape[1:3] != (size, size):
            raise NotScored(f"the frames are no {size}×{size} face crops, and this version finds no faces by itself")
    else:
        raise NotScored(
            "no SyncNet weights are given for clips other than synthetic portraits; "
            "name the public file with --weights syncnet=path/to/syncnet_v2.model"
        )
    return embedder, crops, {"variant": embedder.config.variant, "weights": file_hash(path)}


def _reference(scored: ScoredClip) -> tuple["SyncScores", dict[str, Any]]:
    return _scores(scored, "reference")


def _valid(scored: ScoredClip) -> tuple["SyncScores", dict[str, Any]]:
    return _scores(scored, "valid")


def _embeddings(scored: ScoredClip) -> tuple["SyncEmbeddings", dict[str, str]]:
    """What the network makes of the clip, once for both modes, and where the network comes from."""
    from prefkit.metrics.syncnet import sync_embeddings

    if abs(scored.clip.fps - FPS) > 0.1:
        raise NotScored(f"the clip has {scored.clip.fps:.4g} frames a second and SyncNet reads {FPS}")
    sound = scored.sound()
    embedder, crops, network = _network(scored)
    try:
        return sync_embeddings(crops, sound, embedder), network
    except PrefkitError as error:
        raise NotScored(str(error)) from None


def _scores(scored: ScoredClip, mode: Literal["reference", "valid"]) -> tuple["SyncScores", dict[str, Any]]:
    from prefkit.metrics.syncnet import score_embeddings

    embeddings, network = scored.once(_embeddings)
    try:
        found = score_embeddings(embeddings, mode)
    except PrefkitError as error:
        raise NotScored(str(error)) from None
    confidence = [None if value != value else round(float(value), 3) for value in found.confidence]
    return found, {"mode": mode, "network": network, "confidence_per_window": confidence}


def _value(compute: Callable[[ScoredClip], Any], name: str) -> Callable[[ScoredClip], Measurement]:
    def score(scored: ScoredClip) -> Measurement:
        found, details = scored.once(compute)
        return Measurement(float(getattr(found, name)), details)

    return score


def _metric(
    name: str, direction: Literal["higher", "lower", "band"], unit: str, description: str, *, valid: bool = False
) -> Metric:
    field = name.removesuffix("_valid").removeprefix("sync_")
    return Metric(
        name=name,
        version="1",
        direction=direction,
        unit=unit,
        needs=("frames", "sound", "SyncNet weights (synthetic portraits: shipped)"),
        source="Chung & Zisserman 2016; syncnet_python" + ("; averaged over real shifts only" if valid else ""),
        description=description,
        score=_value(_valid if valid else _reference, field if field == "offset" else f"sync_{field}"),
        lacks=lacking_packages("torch", "scipy", "python_speech_features", "safetensors"),
        weights="syncnet",
    )


METRICS = [
    _metric("sync_c", "higher", "", "confidence: median minus least distance over shifts; blind to a constant lag"),
    _metric("sync_d", "lower", "", "least distance of lips and sound over shifts; blind to a constant lag"),
    _metric("sync_offset", "band", "frames", "minus the shift of least distance; sound delayed by k frames gives -k"),
    _metric("sync_d0", "lower", "", "distance of lips and sound as they are: it rises with the lag"),
    _metric("sync_c_valid", "higher", "", "sync_c without zero padding, which biases short clips", valid=True),
    _metric("sync_d_valid", "lower", "", "sync_d without zero padding, which biases short clips", valid=True),
    _metric("sync_offset_valid", "band", "frames", "sync_offset without zero padding", valid=True),
]
