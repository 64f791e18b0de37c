"""What the metrics' tests share."""

import numpy as np
import pytest

from prefkit.metrics.catalogue import find_metrics
from prefkit.metrics.metric import NotScored, ScoredClip
from prefkit.metrics.passes import array_frames, measure


@pytest.fixture(scope="session")
def score():
    """score(names, frames, fps=25, audio=None, …): each metric's Measurement of frames in memory.

    One name gives its measurement; what is not scored is raised.
    """

    def score(names, frames, fps=25.0, audio=None, **about):
        scored = ScoredClip(fps, *frames.shape[1:3], audio, **about)
        chosen = find_metrics([names] if isinstance(names, str) else names)
        found = measure(scored, array_frames(np.asarray(frames), fps), chosen)
        for reason in found.values():
            if isinstance(reason, NotScored):
                raise reason
        return found[names] if isinstance(names, str) else found

    return score
