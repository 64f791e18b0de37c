"""Where in a clip its error counts more: over time by annotators' marks, over space by face and hands.

A map has non-negative weights that broadcast to a clip's latents [C, F, h, w]; chosen and rejected clip
share it. The error is then a weighted mean (`trainers.losses.prediction_errors`). The clean reference
latent is no part of a clip's latents, so no map reaches it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from prefkit.errors import PrefkitError

# Points of COCO-18 in OpenPose's order and of 68 facial landmarks (iBUG) that say where a region is.
REGIONS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "mouth": {68: tuple(range(48, 68)), 18: (0,)},
    "face": {68: tuple(range(68)), 18: (0, 14, 15, 16, 17)},
    "hands": {18: (4, 7)},
}
# How far a region reaches beyond its points, as a share of the frame's height.
REACH = {"mouth": 0.05, "face": 0.06, "hands": 0.08}
# Keypoints have no mouth: it lies below the nose, by this share of the way to the neck.
NOSE_TO_MOUTH, NOSE, NECK = 0.35, 0, 1


def frame_weight_map(weights: Sequence[float] | None, latent_frames: int) -> torch.Tensor | None:
    """Weights per frame [T] -> a map [1, F, 1, 1] over latents; None stays None.

    The first latent frame is one frame, each later one the mean of (T - 1) / (F - 1) frames, as video
    autoencoders compress 4k + 1 frames.

    Raises:
        PrefkitError: there are too few weights, or a negative one, or all are zero.

    >>> frame_weight_map([1, 2, 2, 4, 4], 2).flatten()
    tensor([1., 3.])
    """
    if weights is None:
        return None
    known = torch.tensor(list(weights), dtype=torch.float32)
    factor = (len(known) - 1) // max(1, latent_frames - 1)
    if len(known) < latent_frames or known.min() < 0 or known.sum() == 0:
        raise PrefkitError(
            f"a pair has {len(known)} frame weights from {known.min():g} to {known.max():g}; "
            "expected one from 0 for each frame, some of them above 0"
        )
    later = known[1 : 1 + factor * (latent_frames - 1)].view(latent_frames - 1, factor)
    return torch.cat([known[:1], later.mean(1)]).view(1, -1, 1, 1)


def region_map(
    points: np.ndarray,
    regions: Mapping[str, float],
    frame_size: tuple[int, int],
    latent_shape: tuple[int, ...],
) -> torch.Tensor:
    """A map [1, F, h, w]: 1, and a region's weight inside the box around its points.

    Args:
        points: [T, 18 or 68, 2 or more]: keypoints (COCO-18) or facial landmarks (iBUG), x and y in
            pixels; NaN where one is not seen.
        regions: name (of `REGIONS`) -> weight; where regions overlap the larger weight holds.
        frame_size: (height, width) in pixels.
        latent_shape: (C, F, h, w).

    Raises:
        ValueError: the points do not say where a region is.
    """
    _, frames, height, width = latent_shape
    found = torch.ones(1, frames, height, width)
    for name, weight in sorted(regions.items(), key=lambda item: item[1]):
        indices = REGIONS[name].get(points.shape[1])
        if indices is None:
            raise ValueError(f"{points.shape[1]} points do not say where the {name} is")
        seen = points[:, list(indices), :2]
        if name == "mouth" and points.shape[1] == 18:
            seen = seen + NOSE_TO_MOUTH * (points[:, [NECK], :2] - points[:, [NOSE], :2])
        for frame, latent in zip(seen, _latent_frame(len(points), frames), strict=True):
            box = _box(frame, REACH[name] * frame_size[0], frame_size, (height, width))
            if box is not None:
                found[0, latent, box[0], box[1]] = weight
    return found


def _latent_frame(frames: int, latent_frames: int) -> list[int]:
    """Per frame, the latent frame it is compressed into."""
    factor = max(1, (frames - 1) // max(1, latent_frames - 1))
    return [min(latent_frames - 1, (frame + factor - 1) // factor) for frame in range(frames)]


def _box(
    points: np.ndarray, reach: float, frame_size: tuple[int, int], latent_size: tuple[int, int]
) -> tuple[slice, slice] | None:
    seen = points[np.isfinite(points).all(1)]
    if not len(seen):
        return None
    sides = []
    for axis, (pixels, cells) in zip((1, 0), zip(frame_size, latent_size, strict=True), strict=True):
        low, high = seen[:, axis].min() - reach, seen[:, axis].max() + reach
        first = int(np.clip(np.floor(low * cells / pixels), 0, cells - 1))
        last = int(np.clip(np.ceil(high * cells / pixels), first + 1, cells))
        sides.append(slice(first, last))
    return sides[0], sides[1]
