"""How simulated annotators see a clip: the landmark network's reading against the known truth.

It never looks at what reading.py reads, so evaluation by colour is independent of the votes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.media import read_clip
from prefkit.metrics.landmark_network import load_landmark_network, predict_landmarks
from prefkit.metrics.landmarks import brow_height, eye_aspect_ratio, mouth_aperture
from prefkit.metrics.weights import SHIPPED_LANDMARKS
from prefkit.synthetic.conditions import read_truth_file
from prefkit.workspace import Workspace

# How a clip's qualities add up to what people call better overall.
EXPRESSION_WEIGHT = 0.5
PIXELS_OFF_WEIGHT = 0.15  # a head one pixel off its skeleton costs as much as 0.15 of lip-sync correlation
TIE_MARGIN = 0.02  # qualities this near are a tie


def make_judge(workspace: Workspace) -> Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, float | None]]:
    """Returns (candidate row, condition row) -> quality per criterion, higher is better.

    Raises (when judging):
        PrefkitError: the condition has no known truth, so nothing can be simulated about it.
    """
    network = load_landmark_network(SHIPPED_LANDMARKS)

    def judge(candidate: Mapping[str, Any], condition: Mapping[str, Any]) -> dict[str, float | None]:
        if not isinstance(condition["truth"], str):
            raise PrefkitError(
                f"the condition {condition['condition_id']} has no known truth; simulated annotators judge "
                "synthetic portraits only, vote on it with 'prefkit annotate'"
            )
        frames = read_clip(workspace.path(candidate["clip"])).frames
        return judge_landmarks(predict_landmarks(frames, network), read_truth_file(workspace.path(condition["truth"])))

    return judge


def judge_landmarks(seen: np.ndarray, truth: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Quality per criterion of landmarks [T, 68, 2] as a network sees them.

    - motion_video_alignment: correlation of the mouth with the speech's, less 0.15 a pixel that the
      face is away from where the skeleton has it;
    - expression: how near the liveliness of eyes and brows comes to the truth's, 0 at best;
    - overall: their sum, expression counting half.
    """
    wanted = truth["landmarks"][: len(seen)]
    lip_sync = _correlation(mouth_aperture(seen), truth["aperture"][: len(seen)])
    off = float(np.linalg.norm(seen[:, 27:36].mean(axis=1) - wanted[:, 27:36].mean(axis=1), axis=-1).mean())
    eyes = abs(float(eye_aspect_ratio(seen).std() - eye_aspect_ratio(wanted).std()))
    brows = abs(float(brow_height(seen).std() - brow_height(wanted).std()))
    alignment = lip_sync - PIXELS_OFF_WEIGHT * off
    expression = -(5 * eyes + 10 * brows)
    return {
        "motion_video_alignment": alignment,
        "expression": expression,
        "overall": alignment + EXPRESSION_WEIGHT * expression,
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else 0.0
