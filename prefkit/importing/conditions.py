"""A folder or a manifest of things to animate -> conditions, checked on the way in."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError, nearest_names
from prefkit.importing.manifest import CLIP_SUFFIXES, TABLE_SUFFIXES, read_table, word
from prefkit.media import (
    SAMPLE_RATE,
    read_audio,
    read_clip,
    read_image,
    sha256_file,
    write_clip,
    write_image,
    write_wav,
)
from prefkit.progress import track
from prefkit.skeletons.drawing import draw_skeleton
from prefkit.skeletons.keypoints import write_keypoints
from prefkit.skeletons.resampling import resample_frames, resample_keypoints
from prefkit.tables import CONDITIONS, content_id
from prefkit.workspace import Workspace, atomic_folder

MOTION = ("skeleton", "keypoints", "driving")
FILES = ("reference_image", "audio", *MOTION)
WORDS = ("text", "identity", "split", "licence", "consent")
COLUMNS = ("condition", *FILES, "keypoints_fps", *WORDS)
SPLITS = ("train", "test", "evaluate")
TOLERANCE = 0.25  # seconds by which speech and skeleton may differ in length; both are cut to the shorter
SHAPE_TOLERANCE = 0.02  # by which the aspects of portrait and skeleton may differ
# What a sub-folder of a folder of conditions holds.
_SUFFIXES = {
    "reference_image": ("portrait", (".png", ".jpg", ".jpeg", ".webp")),
    "audio": ("speech", (".wav", ".flac", ".mp3", ".m4a", ".ogg")),
    "skeleton": ("skeleton", CLIP_SUFFIXES),
    "keypoints": ("keypoints", (".npz", ".npy")),
    "driving": ("driving", CLIP_SUFFIXES),
}

Row = dict[str, str | None]


def add_conditions(
    workspace: Workspace, source: str | Path, *, fps: float = 25.0, pose_model: str | Path | None = None
) -> dict[str, int]:
    """Adds conditions to animate; all are checked before any is written, and adding again does nothing twice.

    `source` is a folder with a sub-folder for each condition (``portrait.png``, ``speech.wav``, and one of
    ``skeleton.mp4``, ``keypoints.npz`` and ``driving.mp4``; ``text.txt`` if there is a text), or a manifest (.csv,
    .jsonl, .parquet) with the columns `condition` (a name), `reference_image`, `audio`, one of `skeleton` (drawn
    frames), `keypoints` ([T, 18 or 128, 3] in pixels of the portrait, at `keypoints_fps`) and `driving` (a video
    of a person), and where known `text`, `identity`, `split`, `licence` and `consent`. Paths are relative to the
    manifest.

    Args:
        workspace: gets rows in conditions, and files under media/.
        source: folder or manifest.
        fps: frame rate of the model; skeletons of another are resampled.
        pose_model: a DWPose or RTMPose network (.onnx), needed for driving videos.

    Returns:
        made, already_there.

    Raises:
        PrefkitError: a file is missing or cannot be read; speech and skeleton are of different lengths, or portrait
            and skeleton of different shapes; a column or split is unknown; one identity is in two splits.
    """
    source = Path(source)
    rows = _folder_rows(source) if source.is_dir() else _manifest_rows(source)
    existing = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    wanted = {_condition_id(row, fps, pose_model): row for row in rows}
    _check_splits([*existing.values(), *wanted.values()])
    missing = {name: row for name, row in wanted.items() if name not in existing}
    estimator = _estimator(missing.values(), pose_model)
    with ExitStack() as folders:  # they take their places when the last condition was found to be sound
        made = []
        for name, row in track(missing.items(), "Adding conditions", total=len(missing)):
            folder = folders.enter_context(atomic_folder(_folder(workspace, name)))
            made.append(_Condition.read(row, fps, estimator).store(folder, name))
    workspace.append(CONDITIONS, made)
    return {"made": len(missing), "already_there": len(wanted) - len(missing)}


# --- the list of conditions --------------------------------------------------------------------------


def _folder_rows(folder: Path) -> list[Row]:
    places = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not places:
        raise PrefkitError(f"{folder} has no sub-folders; expected one per condition, with portrait.png and speech.wav")
    return [_checked(_folder_row(place), str(place)) for place in places]


def _folder_row(place: Path) -> Row:
    row: Row = {"condition": place.name, "identity": place.name}
    for column, (stem, suffixes) in _SUFFIXES.items():
        found = [place / f"{stem}{suffix}" for suffix in suffixes if (place / f"{stem}{suffix}").is_file()]
        row[column] = str(found[0]) if found else None
    text = place / "text.txt"
    row["text"] = text.read_text(encoding="utf-8").strip() or None if text.is_file() else None
    return row


def _manifest_rows(path: Path) -> list[Row]:
    if not path.exists():
        raise PrefkitError(f"there is no folder or manifest {path}")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise PrefkitError(f"{path} is no manifest; expected a folder, or a .csv, .jsonl or .parquet file")
    table = read_table(path)
    for column in table.columns:
        if column not in COLUMNS:
            raise PrefkitError(
                f"{path} has a column {str(column)!r} that conditions do not have{nearest_names(str(column), COLUMNS)}"
            )
    if table.empty:
        raise PrefkitError(f"{path} has no rows; expected one per condition")
    rows = []
    for number, record in enumerate(table.to_dict("records"), start=1):
        row: Row = {str(name): word(value) for name, value in record.items()}
        for column in FILES:
            if row.get(column):
                row[column] = str(path.parent / str(row[column]))
        rows.append(_checked(row, f"row {number} of {path}"))
    return rows


def _checked(row: Row, where: str) -> Row:
    for column in ("condition", "reference_image", "audio"):
        if not row.get(column):
            stem = _SUFFIXES[column][0] if column in _SUFFIXES else column
            raise PrefkitError(f"{where} has no {column}; expected one (in a folder of conditions a file {stem}.…)")
    motions = [name for name in MOTION if row.get(name)]
    if len(motions) != 1:
        raise PrefkitError(
            f"{where} has {' and '.join(motions) or 'no motion'}; expected exactly one of {', '.join(MOTION)}"
        )
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise PrefkitError(f"the split of {where} is {split!r}; expected one of {', '.join(SPLITS)}")
    return row | {"split": split}


def _check_splits(rows: Iterable[Mapping[str, Any]]) -> None:
    splits: dict[str, str] = {}
    for row in rows:
        identity, split = row.get("identity"), row.get("split")
        if identity and split and splits.setdefault(identity, split) != split:
            raise PrefkitError(f"identity {identity!r} is in the splits {splits[identity]} and {split}; expected one")


def _condition_id(row: Row, fps: float, pose_model: str | Path | None) -> str:
    for name in FILES:
        if row.get(name) and not Path(str(row[name])).is_file():
            raise PrefkitError(f"there is no file {row[name]}, the {name} of condition {row['condition']!r}")
    files = {name: sha256_file(str(row[name])) for name in FILES if row.get(name)}
    return content_id("condition", row["condition"], files, row.get("text"), row.get("keypoints_fps"), fps)


def _folder(workspace: Workspace, condition_id: str) -> Path:
    return workspace.path(Path("media") / condition_id)


def _estimator(rows: Iterable[Row], pose_model: str | Path | None) -> Any:
    driven = [row for row in rows if row.get("driving")]
    if not driven:
        return None
    if pose_model is None:
        raise PrefkitError(
            f"condition {driven[0]['condition']!r} has a driving video; name a DWPose or RTMPose network (.onnx) with "
            "--pose-model, or give a skeleton"
        )
    from prefkit.skeletons.pose import PoseEstimator

    return PoseEstimator(pose_model)


# --- one condition -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Condition:
    """A condition whose files were read: portrait, speech and skeleton of one length, at the model's frame rate."""

    row: Row
    portrait: np.ndarray
    audio: np.ndarray
    skeleton: np.ndarray
    keypoints: np.ndarray | None
    fps: float

    @classmethod
    def read(cls, row: Row, fps: float, estimator: Any) -> "_Condition":
        name = row["condition"]
        portrait = read_image(str(row["reference_image"]))
        audio = read_audio(str(row["audio"]))
        skeleton, keypoints = _motion(row, portrait, fps, estimator)
        _check_shapes(name, portrait, skeleton)
        heard, shown = len(audio) / SAMPLE_RATE, len(skeleton) / fps
        if abs(heard - shown) > TOLERANCE:
            raise PrefkitError(
                f"the speech of condition {name!r} lasts {heard:.2f} s and its skeleton {shown:.2f} s "
                f"({len(skeleton)} frames at {fps:g} fps); expected the same length, so cut the longer"
            )
        frames = min(len(skeleton), int(heard * fps + 1e-6))
        if frames < 1:
            raise PrefkitError(f"condition {name!r} lasts {heard:.3f} s; expected at least one frame at {fps:g} fps")
        kept = None if keypoints is None else keypoints[:frames]
        return cls(row, portrait, audio[: round(frames / fps * SAMPLE_RATE)], skeleton[:frames], kept, fps)

    def store(self, folder: Path, condition_id: str) -> dict[str, Any]:
        """Writes the files into a folder and returns the row."""
        files = {"reference_image": "portrait.png", "audio": "speech.wav", "skeleton": "skeleton.mp4"}
        write_image(folder / files["reference_image"], self.portrait)
        write_wav(folder / files["audio"], self.audio)
        write_clip(folder / files["skeleton"], self.skeleton, self.fps)
        if self.keypoints is not None:
            files["keypoints"] = "keypoints.npz"
            write_keypoints(folder / files["keypoints"], self.keypoints, self.skeleton.shape[1:3])
        return {name: f"media/{condition_id}/{file}" for name, file in files.items()} | {
            "condition_id": condition_id,
            "fps": self.fps,
            "num_frames": len(self.skeleton),
            **{name: self.row.get(name) for name in WORDS},
        }


def _motion(row: Row, portrait: np.ndarray, fps: float, estimator: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if row.get("skeleton"):
        clip = read_clip(str(row["skeleton"]))
        return resample_frames(clip.frames, clip.fps, fps), None
    if row.get("driving"):
        clip = read_clip(str(row["driving"]))
        size = clip.frames.shape[1:3]
        keypoints = estimator(resample_frames(clip.frames, clip.fps, fps))
    else:
        size = portrait.shape[:2]
        keypoints = resample_keypoints(_given_keypoints(Path(str(row["keypoints"]))), _keypoints_fps(row, fps), fps)
    return draw_skeleton(keypoints, size), keypoints


def _given_keypoints(path: Path) -> np.ndarray:
    try:
        stored = np.load(path, allow_pickle=False)
        points = stored["keypoints"] if path.suffix == ".npz" else stored
    except (OSError, ValueError, KeyError) as error:
        raise PrefkitError(
            f"{path} cannot be read as keypoints ({error}); expected .npy, or .npz with an array named keypoints"
        ) from None
    return np.asarray(points, np.float32)


def _keypoints_fps(row: Row, fps: float) -> float:
    said = row.get("keypoints_fps")
    try:
        return fps if said is None else float(said)
    except ValueError:
        raise PrefkitError(f"keypoints_fps of condition {row['condition']!r} is {said!r}; expected a number") from None


def _check_shapes(name: str | None, portrait: np.ndarray, skeleton: np.ndarray) -> None:
    aspects = [picture[1] / picture[0] for picture in (portrait.shape[:2], skeleton.shape[1:3])]
    if abs(aspects[0] / aspects[1] - 1) > SHAPE_TOLERANCE:
        raise PrefkitError(
            f"the portrait of condition {name!r} is {portrait.shape[1]}×{portrait.shape[0]} pixels and its skeleton "
            f"{skeleton.shape[2]}×{skeleton.shape[1]}; expected one shape, so crop both alike"
        )
