"""The stage: existing clips of any generator -> conditions and candidates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.importing.manifest import CONDITION_FILES, CONDITION_WORDS, Row, read_source
from prefkit.importing.source_clip import SourceClip, copy_once
from prefkit.media import count_frames, read_audio, read_image, sha256_file, write_wav
from prefkit.progress import track
from prefkit.tables import CANDIDATES, CONDITIONS
from prefkit.workspace import Workspace

SPLITS = ("train", "test")


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
    return import_rows(workspace, read_source(source), fps=fps).summary


@dataclass(frozen=True)
class Imported:
    """What `import_rows` did.

    Attributes:
        summary: `candidates` and `conditions` added, candidates `already_there`, clips `reencoded`.
        placed: (path, condition's name) of a row -> candidate_id.
    """

    summary: dict[str, int]
    placed: dict[tuple[str, str], str]


def import_rows(
    workspace: Workspace, rows: Sequence[Row], *, fps: float | None = None, sound_required: bool = True
) -> Imported:
    """Takes the clips of these rows as candidates, all or none.

    Args:
        workspace: gets rows in conditions and candidates, and files under clips/ and media/.
        rows: with the columns of `prefkit.importing.manifest.COLUMNS`, paths as they can be opened.
        fps: the frame rate that clips are resampled to; None: each keeps its own.
        sound_required: refuse clips without sound.

    Raises:
        PrefkitError: see `import_clips`.
    """
    found = [SourceClip.check(row, fps, sound_required) for row in track(rows, "Checking clips", total=len(rows))]
    clips = list({clip.candidate_id: clip for clip in found}.values())
    existing = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    known = {row["candidate_id"]: row for row in workspace.rows(CANDIDATES)}
    groups: dict[str, list[SourceClip]] = {}
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
        copy_once(path, workspace.path(place))
    candidates = [clip.store(workspace) for clip in track(new, "Importing clips", total=len(new))]
    known |= {row["candidate_id"]: row for row in candidates}
    conditions = []
    for name, row in planned.items():
        stored = [known[clip.candidate_id] for clip in groups[name]]
        conditions.append(_condition_row(workspace, existing.get(name), row, groups[name], stored))
    changed = [row for row in conditions if row != existing.get(row["condition_id"])]
    workspace.append(CONDITIONS, changed)
    workspace.append(CANDIDATES, candidates)
    summary = {
        "candidates": len(candidates),
        "conditions": sum(row["condition_id"] not in existing for row in changed),
        "already_there": len(clips) - len(new),
        "reencoded": sum(not clip.kept for clip in new),
    }
    placed = {(str(clip.row["clip"]), str(clip.row["condition"])): clip.candidate_id for clip in found}
    return Imported(summary, placed)


def _agreed(clips: list[SourceClip]) -> Row:
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


def _check_against(existing: Mapping[str, Any] | None, row: Row, clip: SourceClip) -> None:
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
    clips: Sequence[SourceClip],
    stored: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """The row of conditions: what was known stays, what was missing is filled in."""
    first, with_sound = clips[0], all(clip.has_sound for clip in clips)
    known = {name: value for name, value in (existing or {}).items() if value is not None}
    found: dict[str, Any] = dict.fromkeys(CONDITIONS.schema.names)
    found |= {name: value for name, value in row.items() if value is not None}
    if existing is None:
        found["condition_id"] = first.condition_id
        for name in ("fps", "num_frames"):
            values = {candidate[name] for candidate in stored}
            found[name] = values.pop() if len(values) == 1 else None  # clips may differ; then there is no one value
        if found["audio"] is None and with_sound:
            found["audio"] = _sound_of(workspace, first)
    return found | known


def _sound_of(workspace: Workspace, clip: SourceClip) -> str:
    place = f"media/{clip.sha256[:16]}.wav"
    if not workspace.path(place).exists():
        write_wav(workspace.path(place), read_audio(clip.path))
    return place
