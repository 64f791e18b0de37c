"""The example of CONTRIBUTING.md: a metric of another package, whole."""

import numpy as np

from prefkit.metrics.metric import Measurement, Metric, ScoredClip
from prefkit.metrics.readers import each_frame


def sharpness(frame: np.ndarray) -> float:
    """Mean size of the horizontal gradient of a frame, uint8 [H, W, 3]."""
    return float(np.abs(np.diff(frame.astype(np.int16), axis=1)).mean())


SHARPNESS = each_frame(sharpness)  # sees every frame once while the clip is decoded


def score(scored: ScoredClip) -> Measurement:
    per_frame = scored.seen(SHARPNESS)
    return Measurement(float(per_frame.mean()), {"per_frame": per_frame.round(2).tolist()})


METRIC = Metric(
    name="sharpness",
    version="1",
    direction="higher",
    unit="grey levels",
    needs=("frames",),
    source="example",
    description="mean horizontal gradient",
    score=score,
    reads=(SHARPNESS,),
)
