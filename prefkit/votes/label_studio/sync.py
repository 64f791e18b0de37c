"""push: comparisons to a project; pull: its votes into the store, as often as wanted; sync: both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS, CRITERIA
from prefkit.votes.label_studio.client import LabelStudio
from prefkit.votes.label_studio.tasks import labelling_config, task_of, votes_of
from prefkit.votes.schema import standing, votes
from prefkit.votes.store import VoteStore, insert_votes, undo_row, unrecorded
from prefkit.workspace import Workspace, atomic_write

FILE_NAME = "label-studio.json"  # in the workspace: which project, and which comparisons are there
_BATCH = 500


@dataclass(frozen=True)
class PushSummary:
    """What `push` did: the project's id, tasks added, tasks that were there already."""

    project: int
    added: int
    already_there: int


@dataclass(frozen=True)
class PullSummary:
    """What `pull` did: votes added, votes that changed there, votes that were here already."""

    added: int
    changed: int
    already_here: int


def push(
    workspace: Workspace,
    client: LabelStudio,
    *,
    title: str = "prefkit",
    document_root: Path | None = None,
    clip_url: Callable[[str], str] | None = None,
    criteria: Sequence[str] = CRITERIA,
    guidelines_version: str | None = None,
    seed: int = 0,
) -> PushSummary:
    """Makes the workspace's project, once, and adds one task for each comparison that is not there yet.

    Gold comparisons go too and look the same. Votes of others cannot be hidden in the open-source server.

    Args:
        workspace: with comparisons.
        client: the server.
        title: of a new project.
        document_root: the server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, a folder around the
            workspace; the server then reads the clips from its disk.
        clip_url: candidate id -> a URL that the annotators' browsers reach, instead of `document_root`.
        criteria: what is asked.
        guidelines_version: what annotators are told.
        seed: of the sides.

    Raises:
        PrefkitError: nothing to push, the workspace is not under `document_root`, or the server says no.
    """
    comparisons = workspace.rows(COMPARISONS)
    if not comparisons:
        raise PrefkitError(f"{workspace.root} has nothing to push; make comparisons with 'prefkit compare'")
    url_of = clip_url or _local_files(workspace, document_root)
    state = _read_state(workspace, client.url)
    there = set(state["pushed"]) if state else set()
    new = [row for row in comparisons if row["comparison_id"] not in there]
    # Before anything is made there: a clip that cannot be served is a mistake to hear of now.
    tasks = [task_of(row, url_of, seed, guidelines_version) for row in new]
    if state is None:
        overlap = max(row["target_votes"] or 1 for row in comparisons)
        project = client.create_project(title, labelling_config(criteria), overlap)
        state = {"url": client.url, "project": project, "pushed": [], "folder": False}
        _write_state(workspace, state)
    if clip_url is None and not state["folder"]:
        client.serve_folder(state["project"], str((workspace.root / "clips").resolve()))
        _write_state(workspace, state | {"folder": True})
        state["folder"] = True
    for start in range(0, len(new), _BATCH):
        part = new[start : start + _BATCH]
        client.import_tasks(state["project"], tasks[start : start + _BATCH])
        state["pushed"] += [row["comparison_id"] for row in part]
        _write_state(workspace, state)
    return PushSummary(state["project"], len(new), len(there))


def pull(
    workspace: Workspace, store: VoteStore, client: LabelStudio, criteria: Sequence[str] = CRITERIA
) -> PullSummary:
    """Brings the project's votes into the store; what is here already is left alone, what changed there replaces it.

    Raises:
        PrefkitError: the workspace was not pushed to this server, or the server says no.
    """
    state = _read_state(workspace, client.url)
    if state is None:
        raise PrefkitError(f"{workspace.root} has no project at {client.url}; make it with 'prefkit label-studio push'")
    rows = list(votes_of(client.export(state["project"]), client.url, criteria))
    with store.writing() as connection:
        new = unrecorded(connection, rows)
        changed = 0
        for row in new:
            old = _standing(connection, row)
            if old is not None:
                insert_votes(connection, [undo_row(old)])
                changed += 1
            insert_votes(connection, [row])
    return PullSummary(len(new) - changed, changed, len(rows) - len(new))


def _standing(connection: sa.Connection, row: dict[str, Any]) -> dict[str, Any] | None:
    """What this annotator said before on the same question."""
    same = [votes.c[name] == row[name] for name in ("comparison_id", "annotator", "criterion", "repeat")]
    found = connection.execute(sa.select(votes).where(standing(), *same)).mappings().one_or_none()
    return dict(found) if found else None


def _local_files(workspace: Workspace, document_root: Path | None) -> Callable[[str], str]:
    root = (document_root or workspace.root).resolve()
    clips = {row["candidate_id"]: row["clip"] for row in workspace.rows(CANDIDATES) if row["clip"]}

    def url_of(candidate_id: str) -> str:
        file = workspace.path(clips[candidate_id]).resolve()
        if not file.is_relative_to(root):
            raise PrefkitError(f"{file} is not under {root}; name the server's document root with --document-root")
        return f"/data/local-files/?d={file.relative_to(root).as_posix()}"

    return url_of


def _read_state(workspace: Workspace, url: str) -> dict[str, Any] | None:
    path = workspace.root / FILE_NAME
    state = json.loads(path.read_text()) if path.exists() else None
    if state is not None and state["url"] != url:
        raise PrefkitError(f"{path} names the server {state['url']}, not {url}; remove the file to start anew there")
    return state


def _write_state(workspace: Workspace, state: dict[str, Any]) -> None:
    with atomic_write(workspace.root / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(state, indent=1) + "\n")
