"""A folder or a manifest -> one row per clip."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError, nearest_names

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
CONDITION_FILES = ("reference_image", "audio", "skeleton")
CONDITION_WORDS = ("identity", "split", "licence", "consent", "text")
COLUMNS = ("clip", "condition", "generator", "seed", *CONDITION_FILES, *CONDITION_WORDS)

Row = dict[str, str | None]


def read_source(source: Path) -> list[Row]:
    """The rows of a folder or manifest, one per clip, with paths as the caller can open them.

    Raises:
        PrefkitError: there is no such file, it is of another kind or not readable, a column is unknown, or
            a row lacks what it needs.
    """
    if source.is_dir():
        return _folder_rows(source)
    if not source.exists():
        raise PrefkitError(f"there is no folder or manifest {source}")
    if source.suffix.lower() not in TABLE_SUFFIXES:
        raise PrefkitError(f"{source} is no manifest; expected a folder of clips, or a .csv, .jsonl or .parquet file")
    return _manifest_rows(source, read_table(source))


def _folder_rows(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        clips = sorted(path for path in place.iterdir() if is_clip(path))
        rows += [{"clip": str(path), "condition": place.resolve().name} for path in clips]
    if not rows:
        raise PrefkitError(
            f"{folder} holds no clips; expected files ending in {', '.join(CLIP_SUFFIXES)} "
            "in it or in one sub-folder per condition"
        )
    return rows


def is_clip(path: Path) -> bool:
    """Whether it is a file that is taken for a clip, by its name."""
    return path.is_file() and path.suffix.lower() in CLIP_SUFFIXES and not path.name.startswith(".")


def read_table(path: Path) -> pd.DataFrame:
    """Reads a .csv, .jsonl or .parquet file; what a CSV holds stays text.

    Raises:
        PrefkitError: it cannot be read.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        if path.suffix.lower() == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            return pd.DataFrame([json.loads(line) for line in lines if line.strip()], dtype=object)
        # names stay as they are written: 007 is no number, NA is no gap
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # parse errors of all three are ValueErrors
        raise PrefkitError(f"{path} cannot be read as a table ({error})") from error


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
        row: Row = {str(name): word(value) for name, value in record.items()}
        for column in ("clip", "condition"):
            if row[column] is None:
                raise PrefkitError(f"row {number} of {path} has no {column}")
        for column in ("clip", *CONDITION_FILES):
            if row.get(column):
                row[column] = str(path.parent / str(row[column]))
        rows.append(row)
    return rows


def word(value: Any) -> str | None:
    """What a cell says, without spaces around it; None where it says nothing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a whole number in a column with gaps
    return str(value).strip() or None
