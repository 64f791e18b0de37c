"""Evaluation of clips of synthetic portraits by known truth, as rows like those of the metrics."""

from collections.abc import Iterable, Mapping
from typing import Any

from prefkit.media import read_clip
from prefkit.skeletons.keypoints import read_keypoints
from prefkit.synthetic.conditions import read_truth_file
from prefkit.synthetic.reading import count_blinks, head_motion, keypoint_error, lip_sync, read_truth
from prefkit.workspace import Workspace

# What is read -> which way is better.
DIRECTIONS = {
    "true_lip_sync": "higher",
    "true_keypoint_error": "lower",
    "true_head_motion": "band",
    "true_mouth_range": "band",
    "true_blink_rate": "band",
}
DESCRIPTIONS = {
    "true_lip_sync": "correlation of the mouth's area, found by its colour, with the known aperture",
    "true_keypoint_error": "pixels between the worn markers, found by colour, and the driving skeleton",
    "true_head_motion": "pixels a frame that the earrings move",
    "true_mouth_range": "standard deviation of the mouth's area in square pixels",
    "true_blink_rate": "blinks a second, from the area of the eyes' whites",
}


def known_truth_scores(
    workspace: Workspace, candidates: Iterable[Mapping[str, Any]], conditions: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Reads every candidate that has a clip: condition_id, seed, metric, value."""
    rows = []
    for candidate in candidates:
        if candidate["clip"] is None:
            continue
        condition = conditions[candidate["condition_id"]]
        key = {"condition_id": candidate["condition_id"], "seed": candidate["seed"]}
        for metric, value in _read(workspace, candidate, condition).items():
            rows.append(key | {"metric": metric, "value": value})
    return rows


def _read(workspace: Workspace, candidate: Mapping[str, Any], condition: Mapping[str, Any]) -> dict[str, float]:
    clip = read_clip(workspace.path(candidate["clip"]))
    keypoints = read_keypoints(workspace.path(condition["keypoints"]))[: len(clip.frames)]
    aperture = read_truth_file(workspace.path(condition["truth"]))["aperture"][: len(clip.frames)]
    seen = read_truth(clip.frames, keypoints)
    return {
        "true_lip_sync": lip_sync(seen.mouth_area, aperture),
        "true_keypoint_error": keypoint_error(seen.keypoints, keypoints),
        "true_head_motion": head_motion(seen.keypoints),
        "true_mouth_range": float(seen.mouth_area.std()),
        "true_blink_rate": count_blinks(seen.eye_whites, clip.fps),
    }
