"""Synthetic portraits as rows of the conditions table, with the truth beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.media import write_clip, write_image, write_wav
from prefkit.progress import track
from prefkit.skeletons.keypoints import write_keypoints
from prefkit.synthetic.portrait import FPS, Portrait, make_portrait
from prefkit.tables import CONDITIONS, content_id
from prefkit.workspace import Workspace, atomic_write

LICENCE = "synthetic"
CONSENT = "not needed: drawn by a program, nobody is shown"
# Seeds from here on belong to the pretraining of the tiny model and of the metrics' networks.
SEEDS_END = 1_000_000
SEEDS_EACH = 10_000  # conditions one workspace seed can make
SPLITS = ("train", "test", "evaluate")
MOST = SEEDS_EACH // len(SPLITS)  # conditions of one split
PART_ROWS = 64  # an interruption costs at most so many portraits


def add_portraits(workspace: Workspace, splits: Mapping[str, int], *, seed: int = 0) -> dict[str, int]:
    """Adds conditions to animate: a portrait at rest, speech, a skeleton, and the truth for evaluation.

    Every condition has a person and a speech of its own, so no split has seen another's.

    Args:
        workspace: written: media/<condition_id>/ and rows of conditions.
        splits: how many conditions of each split there shall be, at most 3,333 each.
        seed: 0 to 98; other seeds give other people and speeches.

    Returns:
        made, already_there.

    Raises:
        PrefkitError: a number or the seed is out of range, or a split is not one of `SPLITS`.
    """
    check_portraits(splits, seed=seed)
    first = {split: SEEDS_EACH * seed + MOST * index for index, split in enumerate(SPLITS)}
    wanted = {
        content_id("synthetic portrait", number): (number, split)
        for split, count in splits.items()
        for number in range(first[split], first[split] + count)
    }
    existing = {row["condition_id"] for row in workspace.rows(CONDITIONS)}
    missing = {name: value for name, value in wanted.items() if name not in existing}
    rows: list[dict[str, Any]] = []
    for condition_id, (number, split) in track(missing.items(), "Drawing portraits", total=len(missing)):
        rows.append(_store(workspace, condition_id, make_portrait(number), split))
        if len(rows) == PART_ROWS:
            workspace.append(CONDITIONS, rows)
            rows = []
    workspace.append(CONDITIONS, rows)
    return {"made": len(missing), "already_there": len(wanted) - len(missing)}


def check_portraits(splits: Mapping[str, int], *, seed: int) -> None:
    """Refuses what `add_portraits` cannot make, before anything is written."""
    if not set(splits) <= set(SPLITS) or not all(0 <= count <= MOST for count in splits.values()):
        raise PrefkitError(f"{dict(splits)} portraits were asked for; expected 0 to {MOST} of {', '.join(SPLITS)}")
    if not 0 <= seed < SEEDS_END // SEEDS_EACH - 1:
        raise PrefkitError(f"the seed of the portraits is {seed}; expected 0 to {SEEDS_END // SEEDS_EACH - 2}")


def read_truth_file(path: str | Path) -> dict[str, np.ndarray]:
    """aperture, visemes, eye_opening, brow [T], head_pose [T, 4], landmarks [T, 68, 2] of a condition."""
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _store(workspace: Workspace, condition_id: str, portrait: Portrait, split: str) -> dict[str, Any]:
    folder = Path("media") / condition_id
    files = {
        "reference_image": folder / "portrait.png",
        "audio": folder / "speech.wav",
        "skeleton": folder / "skeleton.mp4",
        "keypoints": folder / "keypoints.npz",
        "truth": folder / "truth.npz",
    }
    at = {name: workspace.path(file) for name, file in files.items()}
    write_image(at["reference_image"], portrait.reference)
    write_wav(at["audio"], portrait.audio)
    write_clip(at["skeleton"], portrait.skeleton, FPS)
    write_keypoints(at["keypoints"], portrait.keypoints, portrait.frames.shape[1:3])
    truth = ("aperture", "visemes", "eye_opening", "brow", "head_pose", "landmarks")
    with atomic_write(at["truth"]) as temporary:
        np.savez(temporary, **{name: getattr(portrait, name) for name in truth})
    return {name: file.as_posix() for name, file in files.items()} | {
        "condition_id": condition_id,
        "identity": portrait.identity.name,
        "fps": FPS,
        "num_frames": len(portrait.frames),
        "split": split,
        "licence": LICENCE,
        "consent": CONSENT,
    }
