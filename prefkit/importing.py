"""Existing clips of any generator -> conditions and candidates."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError, nearest_names
from prefkit.media import (
    MediaError,
    Probe,
    count_frames,
    iter_frames,
    probe,
    read_audio,
    read_image,
    sha256_file,
    write_clip,
    write_wav,
)
from prefkit.progress import track
from prefkit.tables import CANDIDATES, CONDITIONS, content_id
from prefkit.workspace import Workspace, atomic_write

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
CONDITION_FILES = ("reference_image", "audio", "skeleton")
CONDITION_WORDS = ("identity", "split", "licence", "consent", "text")
COLUMNS = ("clip", "condition", "generator", "seed", *CONDITION_FILES, *CONDITION_WORDS)
SPLITS = ("train", "test")

Row = dict[str, str | None]


def import_clips(workspace: Workspace, source: str | Path, *, fps: float | None = None) -> dict[str, Any]:
    """Takes existing clips as candidates.

    `source` is a folder, where each sub-folder is a condition and clips that lie directly in it are one
    condition of the folder's name; or a manifest (.csv, .jsonl, .parquet) with the columns `clip` and
    `condition` (a name: clips of one name are compared with each other, also across imports) and, where
    known, `generator`, `seed`, `identity`, `reference_image`, `audio`, `skeleton`, `split`, `licence`,
    `consent`, `text`. Paths are relative to the manifest.

    A clip that browsers play is copied as it is; others (HEVC, .mov, .mkv …) are encoded anew, near
    lossless, and so are clips of another frame rate than `fps`. Where a condition names no audio, it gets
    the sound of its first clip. All files are checked before anything is written, and importing again
    does nothing twice.

    Args:
        workspace: gets rows in conditions and candidates, and files under clips/ and media/.
        source: folder or manifest.
        fps: the frame rate that clips are resampled to (nearest frames); None: each keeps its own.

    Returns:
        `candidates` and `conditions` added, candidates `already_there`, clips `reencoded`.

    Raises:
        PrefkitError: a file is missing or cannot be read, a clip has no sound, a
            manifest has an unknown column, or what it says contradicts itself or the workspace.
    """
    source = Path(source)
    if fps is not None and not 1 <= fps <= 240:
        raise PrefkitError(f"a frame rate of {fps:g} makes no clip; expected 1 to 240 frames per second")
    rows = _read_source(source)
    found = [_Clip.check(row, fps) for row in track(rows, "Checking clips", total=len(rows))]
    clips = list({clip.candidate_id: clip for clip in found}.values())
    existing = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    known = {row["candidate_id"]: row for row in workspace.rows(CANDIDATES)}
    groups: dict[str, list[_Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.condition_id, []).append(clip)
    wanted = {name: _agreed(group) for name, group in groups.items()}
    files = _check_files(wanted.values())
    planned = {name: _stored(row, files) for name, row in wanted.items()}
    for name, row in planned.items():
        _check_against(existing.get(name), row, groups[name][0])
    _check_splits([*existing.values(), *planned.values()])

    new = [clip for clip in clips if clip.candidate_id not in known]
    for path, place in files.items():
        _copy(path, workspace.path(place))
    candidates = [clip.store(workspace) for clip in track(new, "Importing clips", total=len(new))]
    known |= {row["candidate_id"]: row for row in candidates}
    conditions = []
    for name, row in planned.items():
        stored = [known[clip.candidate_id] for clip in groups[name]]
        conditions.append(_condition_row(workspace, existing.get(name), row, groups[name][0], stored))
    changed = [row for row in conditions if row != existing.get(row["condition_id"])]
    workspace.append(CONDITIONS, changed)
    workspace.append(CANDIDATES, candidates)
    return {
        "candidates": len(candidates),
        "conditions": sum(row["condition_id"] not in existing for row in changed),
        "already_there": len(clips) - len(new),
        "reencoded": sum(not clip.kept for clip in new),
    }


# --- the list of clips -------------------------------------------------------------------------------


def _read_source(source: Path) -> list[Row]:
    if source.is_dir():
        return _folder_rows(source)
    if not source.exists():
        raise PrefkitError(f"there is no folder or manifest {source}")
    if source.suffix.lower() not in (".csv", ".jsonl", ".parquet"):
        raise PrefkitError(f"{source} is no manifest; expected a folder of clips, or a .csv, .jsonl or .parquet file")
    return _manifest_rows(source, _read_manifest(source))


def _folder_rows(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        clips = sorted(path for path in place.iterdir() if _is_clip(path))
        rows += [{"clip": str(path), "condition": place.resolve().name} for path in clips]
    if not rows:
        raise PrefkitError(
            f"{folder} holds no clips; expected files ending in {', '.join(CLIP_SUFFIXES)} "
            "in it or in one sub-folder per condition"
        )
    return rows


def _is_clip(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in CLIP_SUFFIXES and not path.name.startswith(".")


def _read_manifest(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        if path.suffix.lower() == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            return pd.DataFrame([json.loads(line) for line in lines if line.strip()], dtype=object)
        # names stay as they are written: 007 is no number, NA is no gap
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # parse errors of all three are ValueErrors
        raise PrefkitError(f"{path} cannot be read as a manifest ({error})") from error


def _manifest_rows(path: Path, table: pd.DataFrame) -> list[Row]:
    for column in table.columns:
        if column not in COLUMNS:
            raise PrefkitError(
                f"{path} has a column {str(column)!r} that import does not know{nearest_names(str(column), COLUMNS)}"
            )
    for column in ("clip", "condition"):
        if column not in table.columns:
            raise PrefkitError(f"{path} has no column {column!r}; expected at least clip and condition")
    if table.empty:
        raise PrefkitError(f"{path} has no rows; expected one per clip")
    rows = []
    for number, record in enumerate(table.to_dict("records"), start=1):
        row: Row = {str(name): _word(value) for name, value in record.items()}
        for column in ("clip", "condition"):
            if row[column] is None:
                raise PrefkitError(f"row {number} of {path} has no {column}")
        for column in ("clip", *CONDITION_FILES):
            if row.get(column):
                row[column] = str(path.parent / str(row[column]))
        rows.append(row)
    return rows


def _word(value: Any) -> str | None:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a whole number in a column with gaps
    return str(value).strip() or None


# --- one clip ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Clip:
    """A clip that was read from beginning to end, and its row."""

    path: Path
    row: Row
    sha256: str
    probe: Probe
    num_frames: int
    seed: int | None
    fps: float

    @classmethod
    def check(cls, row: Row, fps: float | None) -> "_Clip":
        path = Path(str(row["clip"]))
        found = probe(path)
        if not found.has_audio:
            raise MediaError(f"{path} has no sound; expected a clip with its speech, add it or leave the clip out")
        if found.fps <= 0:
            raise MediaError(f"{path} does not say its frame rate; convert it to mp4 first")
        num_frames = count_frames(path)
        if not len(read_audio(path)):
            raise MediaError(f"the sound of {path} ends before its first frame; expected speech beside the frames")
        resampled = fps is not None and abs(found.fps - fps) > 0.01
        return cls(
            path, row, sha256_file(path), found, num_frames, _seed(row, path), fps if fps and resampled else found.fps
        )

    @property
    def condition_id(self) -> str:
        return content_id("imported", self.row["condition"])

    @property
    def generator(self) -> str:
        return self.row.get("generator") or "imported"

    @property
    def candidate_id(self) -> str:
        made_from = [self.sha256, self.fps] if self.resampled else [self.sha256]
        return content_id("imported", self.condition_id, *made_from, self.generator, self.seed)

    @property
    def resampled(self) -> bool:
        return self.fps != self.probe.fps

    @property
    def kept(self) -> bool:
        """Whether the file stays as it is: of the right frame rate, and every browser plays it (no HEVC, for one)."""
        codecs = {".mp4": ("h264", "av1"), ".m4v": ("h264",), ".webm": ("vp8", "vp9", "av1")}
        fits = self.probe.codec in codecs.get(self.path.suffix.lower(), ())
        return fits and self.probe.pix_fmt in ("yuv420p", "yuvj420p") and not self.resampled

    def store(self, workspace: Workspace) -> dict[str, Any]:
        """Puts the clip into the workspace and returns its row of candidates."""
        name = f"{self.sha256[:16]}-{self.fps:g}fps" if self.resampled else self.sha256[:16]
        place = f"clips/{name}{self.path.suffix.lower() if self.kept else '.mp4'}"
        target = workspace.path(place)
        settings: dict[str, Any] = {"source": self.path.name, "condition": self.row["condition"]}
        num_frames = self.num_frames
        if self.kept:
            _copy(self.path, target)
        else:
            settings |= {"source_codec": self.probe.codec, "source_fps": self.probe.fps, "source_sha256": self.sha256}
            if not target.exists():
                write_clip(target, _even_frames(self.path, self.probe.fps, self.fps), self.fps, read_audio(self.path))
            num_frames = probe(target).num_frames
        return {
            "candidate_id": self.candidate_id,
            "condition_id": self.condition_id,
            "generator": self.generator,
            "settings": json.dumps(settings, sort_keys=True),
            "seed": self.seed,
            "clip": place,
            "sha256": sha256_file(target),
            "fps": self.fps,
            "num_frames": num_frames,
            "round": 0,
        }


def _seed(row: Row, path: Path) -> int | None:
    text = row.get("seed")
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise PrefkitError(f"the seed of {path} is {text!r}; expected a whole number") from None


def _even_frames(path: Path, source_fps: float, fps: float) -> Iterator[np.ndarray]:
    """The frames at a constant rate: each moment shows the latest frame, so some come twice or not at all."""
    number = 0
    shown: np.ndarray | None = None
    end = 0.0
    for frame, seconds in iter_frames(path):
        while shown is not None and number < math.ceil(seconds * fps - 0.1):  # containers round times
            yield shown
            number += 1
        shown, end = frame, seconds + 1 / source_fps
    while shown is not None and number < max(1, math.floor(end * fps + 0.5)):
        yield shown
        number += 1


def _copy(path: Path, target: Path) -> None:
    if target.exists():
        return  # its name is its content
    with atomic_write(target) as temporary:
        shutil.copyfile(path, temporary)


# --- conditions --------------------------------------------------------------------------------------


def _agreed(clips: list[_Clip]) -> Row:
    """What the clips of one condition say about it."""
    agreed: Row = {}
    for name in (*CONDITION_FILES, *CONDITION_WORDS):
        values = {clip.row[name] for clip in clips if clip.row.get(name)}
        if len(values) > 1:
            raise PrefkitError(
                f"the clips of condition {clips[0].row['condition']!r} differ in {name} "
                f"({', '.join(sorted(map(str, values)))}); expected one, or another condition"
            )
        agreed[name] = values.pop() if values else None
    if agreed["split"] not in (None, *SPLITS):
        raise PrefkitError(
            f"the split of condition {clips[0].row['condition']!r} is {agreed['split']!r}; expected train or test"
        )
    return agreed


def _check_files(conditions: Iterable[Row]) -> dict[Path, str]:
    """Reads every file the conditions name -> its place in the workspace."""
    checks = {"reference_image": read_image, "audio": read_audio, "skeleton": count_frames}
    places: dict[Path, str] = {}
    for condition in conditions:
        for name, check in checks.items():
            path = Path(condition[name] or "")
            if condition[name] is None or path in places:
                continue
            check(path)
            places[path] = f"media/{sha256_file(path)[:16]}{path.suffix.lower()}"
    return places


def _stored(condition: Row, files: Mapping[Path, str]) -> Row:
    """The condition's columns with its files where the workspace has them."""
    paths = {name: files[Path(str(condition[name]))] for name in CONDITION_FILES if condition[name]}
    return {**condition, **paths}


def _check_against(existing: Mapping[str, Any] | None, row: Row, clip: _Clip) -> None:
    for name, value in row.items():
        known = existing.get(name) if existing else None
        if value is not None and known is not None and value != known:
            raise PrefkitError(
                f"condition {clip.row['condition']!r} is in the workspace with another {name} ({known}); "
                "expected the same, or another name of the condition"
            )


def _check_splits(conditions: Iterable[Mapping[str, Any]]) -> None:
    splits: dict[str, str] = {}
    for row in conditions:
        identity, split = row.get("identity"), row.get("split")
        if identity and split and splits.setdefault(identity, split) != split:
            raise PrefkitError(
                f"identity {identity!r} is in both splits; expected all its conditions in train or all in test"
            )


def _condition_row(
    workspace: Workspace,
    existing: Mapping[str, Any] | None,
    row: Row,
    first: _Clip,
    stored: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """The row of conditions: what was known stays, what was missing is filled in."""
    known = {name: value for name, value in (existing or {}).items() if value is not None}
    found: dict[str, Any] = dict.fromkeys(CONDITIONS.schema.names)
    found |= {name: value for name, value in row.items() if value is not None}
    if existing is None:
        found["condition_id"] = first.condition_id
        for name in ("fps", "num_frames"):
            values = {candidate[name] for candidate in stored}
            found[name] = values.pop() if len(values) == 1 else None  # clips may differ; then there is no one value
        if found["audio"] is None:
            found["audio"] = _sound_of(workspace, first)
    return found | known


def _sound_of(workspace: Workspace, clip: _Clip) -> str:
    place = f"media/{clip.sha256[:16]}.wav"
    if not workspace.path(place).exists():
        write_wav(workspace.path(place), read_audio(clip.path))
    return place
