"""What every format of votes is read into: verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.importing.manifest import TABLE_SUFFIXES, read_table, word


@dataclass(frozen=True)
class Verdict:
    """One answer of one annotator on one criterion.

    Attributes:
        row: its number in the source, from 1, for messages.
        left: the clip that the source names first.
        right: the other one.
        choice: one of `prefkit.votes.sides.SCREEN_CHOICES`.
        criterion: its name.
        annotator: a pseudonym.
        condition: clips of one name belong together; None: clips that are compared do, also by way of others.
        text: the prompt.
        generators: what made the left and the right clip, where known.
    """

    row: int
    left: Path
    right: Path
    choice: str
    criterion: str
    annotator: str
    condition: str | None = None
    text: str | None = None
    generators: tuple[str | None, str | None] = (None, None)


def read_rows(source: Path, required: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a .csv, .jsonl or .parquet file.

    Raises:
        PrefkitError: it is no such file, lacks a required column or has no rows.
    """
    if not source.is_file():
        raise PrefkitError(f"there is no file {source}; expected a table of votes")
    if source.suffix.lower() not in TABLE_SUFFIXES:
        raise PrefkitError(f"{source} is no table of votes; expected a .csv, .jsonl or .parquet file")
    table: pd.DataFrame = read_table(source)
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise PrefkitError(
            f"{source} has no column {missing[0]!r}; expected at least {', '.join(required)} "
            f"(found {', '.join(map(str, table.columns))})"
        )
    if table.empty:
        raise PrefkitError(f"{source} has no rows; expected one per answer")
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def cell(source: Path, number: int, row: Mapping[str, Any], column: str) -> str:
    """What a required cell says.

    Raises:
        PrefkitError: it is empty.
    """
    found = word(row.get(column))
    if found is None:
        raise PrefkitError(f"row {number} of {source} has no {column}")
    return found


def translated(source: Path, number: int, column: str, said: str, meanings: Mapping[str, str]) -> str:
    """The choice that a word of a format stands for.

    Raises:
        PrefkitError: the format has no such word.
    """
    if said not in meanings:
        raise PrefkitError(f"row {number} of {source} says {said!r} in {column}; expected {', '.join(meanings)}")
    return meanings[said]
