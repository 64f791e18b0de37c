"""Lip-sync by SyncNet: Sync-C, Sync-D, offset, and the distance without any shift.

Synthetic portraits are read by the small network that ships with prefkit and knows nothing else; every
row names the network in its details. Other clips are scored only with weights that the user names, on the
face that `prefkit.metrics.faces` tracks, cropped as published. Frames are brought to 25 a second by taking
the nearest in time, so lips and sound stay aligned to the file's timestamps within half a frame.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.media import SAMPLE_RATE, Frame
from prefkit.metrics.face_tracks import FaceTrack, crop, ticks
from prefkit.metrics.faces import DETECTORS, faces, track
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages

if TYPE_CHECKING:
    from prefkit.metrics.syncnet import SyncEmbedder, SyncEmbeddings, SyncScores

FPS = 25
FEWEST_FPS = 20.0  # slower video has no picture for every fifth of SyncNet's windows
SYNTHETIC_SIZE = (64, 64)


def _is_drawn(scored: ScoredClip) -> bool:
    return scored.synthetic and (scored.height, scored.width) == SYNTHETIC_SIZE


def _check(scored: ScoredClip) -> None:
    """Refuses what no SyncNet could score, before anything is computed."""
    scored.sound()
    if scored.fps < FEWEST_FPS:
        raise NotScored("frame_rate", f"the clip has {scored.fps:.4g} frames a second and SyncNet reads {FPS}")
    if not _is_drawn(scored) and "syncnet" not in scored.weights:
        raise NotScored(
            "lacking",
            "no SyncNet weights are given for clips other than synthetic portraits; "
            "name the public file with --weights syncnet=path/to/syncnet_v2.model",
        )


class _MouthReader:
    """Keeps the region of a drawn portrait that the shipped network reads: 3 kB a frame."""

    def __init__(self) -> None:
        self._regions: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        from prefkit.metrics.loaded_networks import mouth_region

        self._regions.append(mouth_region(frame.rgb[None])[0].copy())

    def result(self) -> np.ndarray:
        return np.stack(self._regions)


def mouths(scored: ScoredClip) -> _MouthReader:
    """A reading of the mouth regions uint8 [T, 32, 32, 3] of a synthetic portrait."""
    if not _is_drawn(scored):
        raise NotScored("not_applicable", "the shipped network reads synthetic portraits only")
    return _MouthReader()


class _LipReader:
    """Cuts the tracked face out of every frame and embeds it; only a few crops are kept at a time."""

    def __init__(self, scored: ScoredClip, face: FaceTrack):
        from prefkit.metrics.loaded_networks import user_syncnet
        from prefkit.metrics.syncnet import LipWindows, fillable_windows, mfcc_columns

        self._face = face
        self._embedder = user_syncnet(scored.weights["syncnet"])
        start = float(scored.timestamps[face.first])
        self._grid = ticks(scored.timestamps, face.first, face.first + len(face.boxes) - 1, FPS)
        sound = scored.sound()[round(start * SAMPLE_RATE) :]
        self._columns = mfcc_columns(sound)
        self._windows = fillable_windows(len(self._grid), len(sound), self._columns.shape[1])
        self._lips = LipWindows(self._embedder, max(self._windows.values()))
        self._next = 0
        off = scored.timestamps[self._grid] - start - np.arange(len(self._grid)) / FPS
        self._details = {
            "track": face.details,
            "alignment": {"frames": len(self._grid), "largest_error_s": round(float(np.abs(off).max()), 4)},
        }

    def add(self, frame: Frame) -> None:
        picture: np.ndarray | None = None
        while not self._lips.full and self._next < len(self._grid) and self._grid[self._next] == frame.index:
            if picture is None:
                box = self._face.boxes[frame.index - self._face.first]
                picture = crop(frame.rgb, box, self._embedder.config.frame_size)
            self._lips.add(picture)
            self._next += 1

    def result(self) -> tuple["SyncEmbeddings", "SyncEmbedder", dict[str, Any]]:
        from prefkit.metrics.syncnet import SyncEmbeddings, embed_audio

        lips = self._lips.embeddings()
        sound = embed_audio(self._columns, len(lips), self._embedder)
        return SyncEmbeddings(lips, sound, self._windows), self._embedder, self._details


def lips(scored: ScoredClip) -> _LipReader:
    """A reading, in the second pass, of the tracked face: its embeddings, the network, and what the row says."""
    if _is_drawn(scored):
        raise NotScored("not_applicable", "the shipped network reads synthetic portraits")
    face = scored.once(track)
    return _too_short(lambda: _LipReader(scored, face))


def _embeddings(scored: ScoredClip) -> tuple["SyncEmbeddings", dict[str, Any]]:
    """What the network makes of the clip, once for both modes, and what the row says of it."""
    from prefkit.metrics.weights import SHIPPED_LIPSYNC, file_hash

    details: dict[str, Any] = {}
    if _is_drawn(scored):
        from prefkit.metrics.loaded_networks import shipped_lipsync_network
        from prefkit.metrics.syncnet import sync_embeddings

        embedder, path = shipped_lipsync_network(), SHIPPED_LIPSYNC
        grid = ticks(scored.timestamps, 0, scored.num_frames - 1, FPS)
        found = _too_short(lambda: sync_embeddings(scored.seen(mouths)[grid], scored.sound(), embedder))
    else:
        path = scored.weights["syncnet"]
        found, embedder, details = scored.seen(lips)
    return found, {"network": {"variant": embedder.config.variant, "weights": file_hash(path)}} | details


def _reference(scored: ScoredClip) -> tuple["SyncScores", dict[str, Any]]:
    return _scores(scored, "reference")


def _valid(scored: ScoredClip) -> tuple["SyncScores", dict[str, Any]]:
    return _scores(scored, "valid")


def _too_short(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except PrefkitError as error:
        raise NotScored("too_short", str(error)) from None


def _scores(scored: ScoredClip, mode: Literal["reference", "valid"]) -> tuple["SyncScores", dict[str, Any]]:
    from prefkit.metrics.syncnet import score_embeddings

    embeddings, details = scored.once(_embeddings)
    found = _too_short(lambda: score_embeddings(embeddings, mode))
    confidence = [None if value != value else round(float(value), 3) for value in found.confidence]
    return found, {"mode": mode, "confidence_per_window": confidence} | details


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
        version="2",
        direction=direction,
        unit=unit,
        needs=("frames", "sound", "SyncNet weights (synthetic portraits: shipped)"),
        source="Chung & Zisserman 2016; syncnet_python" + ("; averaged over real shifts only" if valid else ""),
        description=description,
        score=_value(_valid if valid else _reference, field if field == "offset" else f"sync_{field}"),
        check=_check,
        reads=(mouths, faces),
        rereads=(lips,),
        lacks=lacking_packages("torch", "scipy", "python_speech_features", "safetensors", "cv2"),
        weights=("syncnet", *DETECTORS),
        supplies=("boxes",),
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
