"""Votes out of the store into one file, and back."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import PrefkitError
from prefkit.tables import VOTES
from prefkit.votes.store import VoteStore, insert_votes
from prefkit.workspace import Workspace, atomic_write


def export_votes(workspace: Workspace, path: str | Path, *, history: bool = False) -> int:
    """Writes the votes that count (undone and replaced ones are left out) and returns how many.

    Annotators go by their pseudonyms; accounts and contacts do not leave the store.

    Args:
        workspace: whose votes.
        path: a `.parquet` file (typed as `VOTES.schema`) or a `.csv` file.
        history: write every row ever written instead, so that another store can take it over whole.

    Raises:
        PrefkitError: nobody has voted, or the file is of another kind.
    """
    path = Path(path)
    if path.suffix not in {".parquet", ".csv"}:
        raise PrefkitError(f"cannot export votes to {path.name}; expected a name that ends in .parquet or .csv")
    store = VoteStore.in_workspace(workspace, create=False)
    votes = store.all_votes() if history else store.votes()
    store.close()
    if votes.empty:
        raise PrefkitError(f"{workspace.root} has no votes yet; vote with 'prefkit annotate {workspace.root}'")
    with atomic_write(path) as temporary:
        if path.suffix == ".csv":
            votes.to_csv(temporary, index=False)
        else:
            pq.write_table(pa.Table.from_pandas(votes, schema=VOTES.schema, preserve_index=False), temporary)
    return len(votes)


def import_votes(workspace: Workspace, path: str | Path) -> int:
    """Takes over votes from a Parquet file, all or none, and returns how many were new.

    Raises:
        PrefkitError: the file is no table of votes.
        VoteConflict: a vote contradicts one that is here.
    """
    try:
        found = pq.read_table(path)
        rows = found.select([name for name in VOTES.schema.names if name in found.column_names]).to_pylist()
        missing = {"vote_id", "comparison_id", "annotator", "criterion", "choice", "left", "source", "created_at"}
        missing -= set(found.column_names)
    except (OSError, pa.ArrowInvalid) as error:
        raise PrefkitError(f"{path} cannot be read as Parquet ({error}); expected what 'votes export' wrote") from None
    if missing:
        raise PrefkitError(f"{path} has no columns {', '.join(sorted(missing))}; expected what 'votes export' wrote")
    store = VoteStore.in_workspace(workspace)
    with store.writing() as connection:
        added = sum(len(insert_votes(connection, wave)) for wave in _in_order(rows))
    store.close()
    return added


def _in_order(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Waves with one row a question each, as they were cast: an answer, its undo, the next answer."""
    known = {row["vote_id"]: row for row in rows}

    def depth(row: dict[str, Any]) -> int:
        steps = 0
        while row.get("supersedes") in known and steps <= len(rows):
            row, steps = known[row["supersedes"]], steps + 1
        return steps

    waves: dict[int, list[dict[str, Any]]] = defaultdict(list)
    turns: Counter[tuple[Any, ...]] = Counter()
    for row in sorted(rows, key=lambda row: (row["created_at"], depth(row))):
        question = tuple(row.get(name) for name in ("comparison_id", "annotator", "criterion", "repeat"))
        waves[turns[question]].append(row)
        turns[question] += 1
    return [waves[turn] for turn in sorted(waves)]
