"""The folder of a preference dataset: its rows, and what identifies its contents."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from prefkit.errors import PrefkitError, nearest_names
from prefkit.media import sha256_file
from prefkit.tables import PAIRS

Row = Mapping[str, Any]


def read_pairs(folder: str | Path, split: str) -> list[Row]:
    """Reads one split's rows.

    Returns:
        Dicts by the columns of `prefkit.tables.PAIRS`, in the file's order; empty where there is no such split.

    Raises:
        PrefkitError: the folder holds no preference dataset, or columns are missing.
    """
    folder = Path(folder)
    if not any((folder / "pairs").glob("*.parquet")):
        raise PrefkitError(
            f"{folder} holds no preference dataset (no pairs/*.parquet); run 'prefkit build-pairs' first"
        )
    path = folder / "pairs" / f"{split}.parquet"
    if not path.exists():
        return []
    missing = set(PAIRS.schema.names) - set(pq.read_schema(path).names)
    if missing:
        raise PrefkitError(f"{path} lacks the columns {', '.join(sorted(missing))}; build the pairs again")
    return pq.read_table(path, columns=PAIRS.schema.names).to_pylist()


def dataset_fingerprint(folder: str | Path, rows: Sequence[Row]) -> str:
    """16 hex digits over rows and the contents of the files they name."""
    hashes = FileHashes(Path(folder))
    columns = ("chosen", "rejected", "chosen_latents", "rejected_latents", "reference_image", "audio", "skeleton")
    digest = hashlib.sha256()
    for row in rows:
        files = [hashes(row[column]) if row[column] else None for column in columns]
        digest.update(json.dumps([dict(row), files], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


class FileHashes:
    """SHA-256 of files in a folder, each computed once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[str, str] = {}

    def __call__(self, relative: str) -> str:
        """The hash of a file, or PrefkitError where there is none."""
        if relative not in self._known:
            path = self.folder / relative
            if not path.is_file():
                raise PrefkitError(f"{path}, which the dataset names, does not exist; build the pairs again")
            self._known[relative] = sha256_file(path)
        return self._known[relative]


def chosen_criteria(rows: Sequence[Row], criteria: Sequence[str] | None, weights: Sequence[float] | None) -> list[Row]:
    """The rows of these criteria, their weights multiplied by the criterion's.

    Args:
        rows: as `read_pairs` gave them.
        criteria: which to keep; None for all.
        weights: one number per criterion, 1 each by default.

    Raises:
        PrefkitError: rows are given, but none of a criterion's.
    """
    if criteria is None:
        return list(rows)
    factors = dict(zip(criteria, weights or [1.0] * len(criteria), strict=True))
    known = {row["criterion"] for row in rows}
    for name in criteria:
        if rows and name not in known:
            raise PrefkitError(f"no pair is about {name!r}{nearest_names(name, {str(name) for name in known})}")
    return [
        {**row, "weight": (1.0 if row["weight"] is None else row["weight"]) * factors[row["criterion"]]}
        for row in rows
        if row["criterion"] in factors
    ]
