"""A workspace: a folder of tables and clips. Append-only parts, written whole or not at all.

::

    workspace.json            format version
    tables/<name>/part-00000.parquet …
    media/                    portraits, speech, skeletons, known truth
    clips/  latents/          what sampling made
    votes.sqlite              the vote store (prefkit.votes)
    pairs/  runs/  reports/   what the later stages made
"""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import PrefkitError
from prefkit.tables import Table

FORMAT = 1


class Workspace:
    """Tables and files under one folder.

    Open one with `Workspace.create` or `Workspace.open`; the stages get it from the command line.
    """

    def __init__(self, root: Path):
        self.root = root

    @classmethod
    def create(cls, root: str | Path) -> "Workspace":
        """Makes the folder a workspace, or opens it if it is one.

        Raises:
            PrefkitError: the folder holds other files, or a workspace of a newer version.
        """
        root = Path(root)
        if (root / "workspace.json").exists():
            return cls.open(root)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise PrefkitError(f"{root} exists and is no workspace; name an empty or a new folder")
        root.mkdir(parents=True, exist_ok=True)
        with atomic_write(root / "workspace.json") as temporary:
            temporary.write_text(json.dumps({"format": FORMAT}) + "\n")
        return cls(root)

    @classmethod
    def open(cls, root: str | Path) -> "Workspace":
        """Opens an existing workspace.

        Raises:
            PrefkitError: there is none, or it was made by a newer prefkit.
        """
        root = Path(root)
        marker = root / "workspace.json"
        if not marker.exists():
            raise PrefkitError(
                f"{root} is no workspace (it has no workspace.json); make one with 'prefkit init {root}'"
            )
        try:
            found = json.loads(marker.read_text())["format"]
        except (ValueError, KeyError, TypeError):
            raise PrefkitError(
                f"{marker} cannot be read; expected {{\"format\": {FORMAT}}} as 'prefkit init' writes it"
            ) from None
        if found > FORMAT:
            raise PrefkitError(
                f"{root} has workspace format {found}, this prefkit reads up to {FORMAT}; upgrade prefkit"
            )
        return cls(root)

    def path(self, relative: str | Path) -> Path:
        """The absolute path of a path found in a row."""
        return self.root / relative

    def read(self, table: Table) -> pd.DataFrame:
        """All rows in the order they were first written; of rows with the same key the last one wins."""
        parts = [pq.read_table(part, schema=table.schema) for part in self._parts(table)]
        rows = pa.concat_tables(parts) if parts else table.schema.empty_table()
        frame = rows.to_pandas()
        return frame.drop_duplicates(list(table.key), keep="last").reset_index(drop=True)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """What `read` returns as plain dicts: missing values are None and whole numbers stay int."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for part in self._parts(table):
            for row in pq.read_table(part, schema=table.schema).to_pylist():
                found[tuple(row[name] for name in table.key)] = row
        return list(found.values())

    def append(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
        """Writes rows as one new part and returns how many. Columns a row lacks are null.

        Raises:
            ValueError: a row has a column the table does not know (a bug in the stage).
        """
        rows = list(rows)
        if not rows:
            return 0
        unknown = {name for row in rows for name in row} - set(table.schema.names)
        if unknown:
            raise ValueError(f"{table.name} has no columns {sorted(unknown)}")
        arrow = pa.Table.from_pylist([dict(row) for row in rows], schema=table.schema)
        folder = self.root / "tables" / table.name
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(part.stem.split("-")[1]) for part in self._parts(table)), default=-1)
        with atomic_write(folder / f"part-{number:05d}.parquet") as temporary:
            pq.write_table(arrow, temporary)
        return len(rows)

    def _parts(self, table: Table) -> list[Path]:
        return sorted((self.root / "tables" / table.name).glob("part-*.parquet"))


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix) that becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its place when the block ends well.

    Until then an older folder of that name stays whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".writing-"))
    old = temporary.with_name(temporary.name + "-old")
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists() and _exchange(temporary, path):
            return  # the older one has the temporary name now
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        if old.exists() and not path.exists():  # stopped between the two moves
            old.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two folders in one step, so that a kill finds one or the other; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2  # Linux; two renames have a moment with no folder
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
