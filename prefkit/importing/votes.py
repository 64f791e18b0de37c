"""The stage: clips with verdicts from elsewhere -> conditions, candidates, comparisons and votes."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError, nearest_names
from prefkit.importing import genai_bench, pick_a_pic, table, videoalign
from prefkit.importing.clips import import_rows
from prefkit.importing.manifest import Row
from prefkit.importing.verdicts import Verdict
from prefkit.tables import COMPARISONS, content_id
from prefkit.votes.sides import canonical_choice
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

# A format's name is also what the votes say they come from.
FORMATS: dict[str, Callable[[Path, Path], list[Verdict]]] = {
    "videoalign": videoalign.read_verdicts,
    "pick-a-pic": pick_a_pic.read_verdicts,
    "genai-bench": genai_bench.read_verdicts,
    "votes": table.read_verdicts,
}


def import_votes(workspace: Workspace, source: str | Path, format: str) -> dict[str, Any]:
    """Takes over clips and what people said about them.

    Clips need no sound. All files are checked before anything is written, and importing again adds nothing.
    Each vote says where it comes from: `source` is the format's name ("imported" for plain tables).

    Args:
        workspace: gets conditions, candidates, comparisons (made for training), and votes in its store.
        source: a .csv, .jsonl or .parquet file; paths in it are relative to it.
        format: a key of `FORMATS`; the module of each documents how columns are mapped.

    Returns:
        conditions, candidates, comparisons and votes added, and dropped: {reason: answers}.

    Raises:
        PrefkitError: an unknown format, a column that is missing, a word the format does not have, answers
            that contradict each other or the store, a clip that cannot be read, or nothing left.
    """
    if format not in FORMATS:
        raise PrefkitError(f"there is no format {format!r}{nearest_names(format, FORMATS)}")
    source = Path(source)
    with tempfile.TemporaryDirectory() as scratch:
        verdicts, dropped = _usable(FORMATS[format](source, Path(scratch)), source)
        verdicts = _with_conditions(verdicts)
        _check_contradictions(verdicts, source)
        imported = import_rows(workspace, _clip_rows(verdicts), sound_required=False)
    comparisons, votes = _comparisons_and_votes(verdicts, imported.placed, format, dropped)
    known = {row["comparison_id"] for row in workspace.rows(COMPARISONS)}
    new = [row for name, row in sorted(comparisons.items()) if name not in known]
    workspace.append(COMPARISONS, new)
    store = VoteStore.in_workspace(workspace)
    try:
        added = store.record(votes.values())
    finally:
        store.close()
    return {
        "conditions": imported.summary["conditions"],
        "candidates": imported.summary["candidates"],
        "comparisons": len(new),
        "votes": added,
        "already_there": len(votes) - added,
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
    }


def _usable(verdicts: list[Verdict], source: Path) -> tuple[list[Verdict], Counter[str]]:
    if not verdicts:
        raise PrefkitError(f"{source} has no verdict in it; expected at least one")
    dropped: Counter[str] = Counter()
    kept = []
    for verdict in (replace(one, left=_plain(one.left), right=_plain(one.right)) for one in verdicts):
        if not verdict.left.is_file() or not verdict.right.is_file():
            dropped["clip file missing"] += 1
        else:
            kept.append(verdict)
    if not kept:
        raise PrefkitError(
            f"none of the clips that {source} names is there (the first is {verdicts[0].left}); "
            "paths are relative to the file"
        )
    return kept, dropped


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _with_conditions(verdicts: list[Verdict]) -> list[Verdict]:
    """Gives every verdict a condition: where none is named, the first clip of those that are compared."""
    leader: dict[Path, Path] = {}

    def find(path: Path) -> Path:
        while leader.setdefault(path, path) != path:
            leader[path] = leader[leader[path]]
            path = leader[path]
        return path

    unnamed = [verdict for verdict in verdicts if verdict.condition is None]
    for verdict in unnamed:
        first, second = sorted((find(verdict.left), find(verdict.right)))
        leader[second] = first
    return [
        verdict if verdict.condition is not None else replace(verdict, condition=f"compared with {find(verdict.left)}")
        for verdict in verdicts
    ]


def _check_contradictions(verdicts: Iterable[Verdict], source: Path) -> None:
    """Raises PrefkitError where an annotator gives two answers to one question."""
    answers: dict[tuple[Any, ...], tuple[str, int]] = {}
    for verdict in verdicts:
        clips = tuple(sorted((verdict.left, verdict.right)))
        question = (clips, verdict.condition, verdict.annotator, verdict.criterion)
        better = {"left": str(verdict.left), "right": str(verdict.right)}.get(verdict.choice, verdict.choice)
        known, row = answers.setdefault(question, (better, verdict.row))
        if known != better:
            raise PrefkitError(
                f"rows {row} and {verdict.row} of {source} contradict each other: {verdict.annotator} answers "
                f"{verdict.criterion} of the same clips in two ways; leave one out"
            )


def _clip_rows(verdicts: Iterable[Verdict]) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    for verdict in verdicts:
        for path, generator in zip((verdict.left, verdict.right), verdict.generators, strict=True):
            row = {"clip": str(path), "condition": verdict.condition, "text": verdict.text, "generator": generator}
            rows.setdefault((str(path), str(verdict.condition)), row)
    return [rows[key] for key in sorted(rows)]


def _comparisons_and_votes(
    verdicts: Iterable[Verdict], placed: Mapping[tuple[str, str], str], format: str, dropped: Counter[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    source = "imported" if format == "votes" else format
    comparisons: dict[str, dict[str, Any]] = {}
    votes: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        left = placed[str(verdict.left), str(verdict.condition)]
        right = placed[str(verdict.right), str(verdict.condition)]
        if left == right:
            dropped["both clips are the same file"] += 1
            continue
        first, second = sorted((left, right))
        comparison = content_id("comparison", first, second, "train")  # as `prefkit.comparisons` names it
        vote_id = content_id("imported vote", source, comparison, verdict.annotator, verdict.criterion)
        side = "a" if left == first else "b"
        choice = canonical_choice(verdict.choice, side)
        if vote_id in votes:
            if votes[vote_id]["choice"] != choice:  # two names of one file, so the paths did not show it
                raise PrefkitError(
                    f"row {verdict.row} contradicts an earlier one: {verdict.annotator} answers {verdict.criterion} of "
                    f"{verdict.left.name} and {verdict.right.name} (or copies of them) in two ways; leave one out"
                )
            dropped["the same answer again"] += 1
            continue
        comparisons[comparison] = {
            "comparison_id": comparison,
            "condition_id": content_id("imported", verdict.condition),
            "candidate_a": first,
            "candidate_b": second,
            "purpose": "train",
            "reason": f"imported from {format}",
            "round": 0,
            "target_votes": 1,
        }
        votes[vote_id] = {
            "vote_id": vote_id,
            "comparison_id": comparison,
            "annotator": verdict.annotator,
            "criterion": verdict.criterion,
            "choice": choice,
            "left": side,
            "source": source,
        }
    return comparisons, votes
