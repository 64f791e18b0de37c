"""How much moves and how evenly, from dense optical flow (DIS, Kroeger et al. 2016); needs no weights.

Flow is measured on grey frames whose short side is at most 256 px and is given in percent of the
short side, per second, so that neither resolution nor frame rate changes the value.
"""

import numpy as np

from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages

SHORT_SIDE = 256  # px
TOP_SHARE = 0.05  # of the pixels; VBench's dynamic degree looks at the same share


def grey_frames(frames: np.ndarray) -> np.ndarray:
    """Uint8 [T, H, W, 3] RGB -> uint8 [T, h, w], shrunk so that min(h, w) ≤ 256."""
    import cv2

    height, width = frames.shape[1:3]
    scale = min(1.0, SHORT_SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return np.stack([image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in grey])


def optical_flow(grey: np.ndarray) -> np.ndarray:
    """Flow from each frame to the next, uint8 [T, h, w] -> float32 [T − 1, h, w, 2] (x, y) in pixels."""
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # the estimator would start from the flow it is handed; each pair starts from none
    pairs = zip(grey[:-1], grey[1:], strict=True)
    return np.stack([estimator.calc(first, second, None) for first, second in pairs])  # type: ignore[call-overload]


def top_magnitude(vectors: np.ndarray, share: float = TOP_SHARE) -> np.ndarray:
    """Mean length of the longest `share` of the vectors of each frame, [T, h, w, 2] -> float64 [T]."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1).reshape(len(vectors), -1)
    count = max(1, round(lengths.shape[1] * share))
    return np.partition(lengths, -count, axis=1)[:, -count:].mean(axis=1)


def _flow(scored: ScoredClip) -> np.ndarray:
    """Flow in percent of the short side, [T − 1, h, w, 2]."""
    if len(scored.clip.frames) < 2:
        raise NotScored("the clip has fewer than 2 frames")
    grey = grey_frames(scored.clip.frames)
    if min(grey.shape[1:]) < 16:
        raise NotScored("the frames are smaller than 16 px, too small for optical flow")
    return optical_flow(grey) * (100.0 / min(grey.shape[1:]))


def _dynamic_degree(scored: ScoredClip) -> Measurement:
    per_frame = top_magnitude(scored.once(_flow)) * scored.clip.fps
    return Measurement(float(per_frame.mean()), {"per_frame": per_frame.round(3).tolist()})


def _flow_acceleration(scored: ScoredClip) -> Measurement:
    flow = scored.once(_flow)
    if len(flow) < 2:
        raise NotScored("the clip has fewer than 3 frames")
    per_frame = top_magnitude(np.diff(flow, axis=0)) * scored.clip.fps**2
    return Measurement(float(per_frame.mean()), {"per_frame": per_frame.round(1).tolist()})


METRICS = [
    Metric(
        name="dynamic_degree",
        version="1",
        direction="band",
        unit="% of the short side / s",
        needs=("frames",),
        source="VBench (arXiv 2311.17982), dynamic degree, without its threshold; DIS flow instead of RAFT",
        description="mean speed of the fastest 5 % of pixels",
        score=_dynamic_degree,
        lacks=lacking_packages("cv2"),
    ),
    Metric(
        name="flow_acceleration",
        version="1",
        direction="lower",
        unit="% of the short side / s²",
        needs=("frames",),
        source="prefkit",
        description="mean change of the optical flow from frame to frame, over the 5 % of pixels where it is greatest",
        score=_flow_acceleration,
        lacks=lacking_packages("cv2"),
    ),
]
