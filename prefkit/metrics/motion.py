"""How much moves and how evenly, from dense optical flow (DIS, Kroeger et al. 2016); needs no weights.

Flow is measured on grey frames whose short side is at most 256 px and is given in percent of the
short side, per second, so that neither resolution nor frame rate changes the value.
"""

from typing import NamedTuple

import numpy as np

from prefkit.media import Frame
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages

SHORT_SIDE = 256  # px
TOP_SHARE = 0.05  # of the pixels; VBench's dynamic degree looks at the same share


def grey_frame(frame: np.ndarray) -> np.ndarray:
    """Uint8 [H, W, 3] RGB -> uint8 [h, w], shrunk so that min(h, w) ≤ 256."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, SHORT_SIDE / min(height, width))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if scale == 1:
        return grey
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def top_magnitude(vectors: np.ndarray, share: float = TOP_SHARE) -> float:
    """Mean length of the longest `share` of the vectors, [h, w, 2]."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1).ravel()
    count = max(1, round(len(lengths) * share))
    return float(np.partition(lengths, -count)[-count:].mean())


class Motion(NamedTuple):
    """How fast the fastest pixels move, in percent of the frame's short side.

    Attributes:
        speeds: float64 [T − 1], a frame, of each step.
        changes: float64 [T − 2], a frame, of the flow from step to step.
    """

    speeds: np.ndarray
    changes: np.ndarray


class _FlowReader:
    """Optical flow from each frame to the next; only the last frame and its flow are kept."""

    def __init__(self) -> None:
        import cv2

        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._grey: np.ndarray | None = None
        self._flow: np.ndarray | None = None
        self._speeds: list[float] = []
        self._changes: list[float] = []

    def add(self, frame: Frame) -> None:
        grey = grey_frame(frame.rgb)
        if min(grey.shape) < 16:
            raise NotScored("too_small", "the frames are smaller than 16 px, too small for optical flow")
        if self._grey is not None:
            # the estimator would start from the flow it is handed; each pair starts from none
            flow = self._estimator.calc(self._grey, grey, None)  # type: ignore[call-overload]
            flow = flow * (100.0 / min(grey.shape))
            self._speeds.append(top_magnitude(flow))
            if self._flow is not None:
                self._changes.append(top_magnitude(flow - self._flow))
            self._flow = flow
        self._grey = grey

    def result(self) -> Motion:
        return Motion(np.array(self._speeds), np.array(self._changes))


def optical_flow(scored: ScoredClip) -> _FlowReader:
    """A reading of a clip's `Motion`."""
    return _FlowReader()


def _dynamic_degree(scored: ScoredClip) -> Measurement:
    per_frame = scored.seen(optical_flow).speeds * scored.fps
    if not len(per_frame):
        raise NotScored("too_short", "the clip has fewer than 2 frames")
    return Measurement(float(per_frame.mean()), {"per_frame": per_frame.round(3).tolist()})


def _flow_acceleration(scored: ScoredClip) -> Measurement:
    per_frame = scored.seen(optical_flow).changes * scored.fps**2
    if not len(per_frame):
        raise NotScored("too_short", "the clip has fewer than 3 frames")
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
        reads=(optical_flow,),
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
        reads=(optical_flow,),
        lacks=lacking_packages("cv2"),
    ),
]
