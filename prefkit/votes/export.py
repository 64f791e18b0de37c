"""Votes out of the store, into one file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import PrefkitError
from prefkit.tables import VOTES
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace, atomic_write


def export_votes(workspace: Workspace, path: str | Path) -> int:
    """Writes the votes that count (undone and replaced ones are left out) and returns how many.

    Args:
        workspace: whose votes.
        path: a `.parquet` file (typed as `VOTES.schema`) or a `.csv` file.

    Raises:
        PrefkitError: nobody has voted, or the file is of another kind.
    """
    path = Path(path)
    if path.suffix not in {".parquet", ".csv"}:
        raise PrefkitError(f"cannot export votes to {path.name}; expected a name that ends in .parquet or .csv")
    votes = VoteStore.in_workspace(workspace, create=False).votes()
    if votes.empty:
        raise PrefkitError(f"{workspace.root} has no votes yet; vote with 'prefkit annotate {workspace.root}'")
    with atomic_write(path) as temporary:
        if path.suffix == ".csv":
            votes.to_csv(temporary, index=False)
        else:
            pq.write_table(pa.Table.from_pandas(votes, schema=VOTES.schema, preserve_index=False), temporary)
    return len(votes)
