"""Votes as numbers: each column of names is looked up once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.tables import CHOICES


@dataclass(frozen=True)
class Names:
    """A column of names: `code` int [V] are places in `names`, which is sorted."""

    code: np.ndarray
    names: np.ndarray

    @classmethod
    def of(cls, column: pd.Series, missing: str = "") -> "Names":
        """Looks the names up; a missing one is called `missing`."""
        code, uniques = pd.factorize(column.fillna(missing) if column.hasnans else column)
        names = np.asarray(uniques, dtype=object)
        order = np.argsort(names)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return cls(place[code], names[order])

    def take(self, rows: np.ndarray) -> "Names":
        """These rows; names that are left without one stay."""
        return Names(self.code[rows], self.names)


@dataclass(frozen=True)
class CodedVotes:
    """The columns of votes that aggregation looks at.

    Attributes:
        comparison, annotator, criterion, source: names.
        choice: int [V], a place in `prefkit.tables.CHOICES`; −1 where there is none (an undo).
        side: int [V], 1 where a was on the left, −1 where b was, 0 where nobody knows.
        repeat: int [V].
    """

    comparison: Names
    annotator: Names
    criterion: Names
    source: Names
    choice: np.ndarray
    side: np.ndarray
    repeat: np.ndarray

    def take(self, rows: np.ndarray) -> "CodedVotes":
        """These rows."""
        return CodedVotes(
            comparison=self.comparison.take(rows),
            annotator=self.annotator.take(rows),
            criterion=self.criterion.take(rows),
            source=self.source.take(rows),
            choice=self.choice[rows],
            side=self.side[rows],
            repeat=self.repeat[rows],
        )

    def answer(self) -> np.ndarray:
        """Numbers, [V], that are alike where one annotator answers the same question for the same time."""
        code = self.comparison.code
        for names in (self.annotator, self.criterion):
            code = code * max(len(names.names), 1) + names.code
        return code * (int(self.repeat.max(initial=0)) + 1) + self.repeat


def code_votes(votes: pd.DataFrame) -> CodedVotes:
    """Looks up all names.

    Args:
        votes: rows of `prefkit.tables.VOTES`.

    Raises:
        PrefkitError: a choice that is none of `CHOICES`.
    """
    unknown = sorted(set(votes["choice"].dropna().unique()) - set(CHOICES))
    if unknown:
        raise PrefkitError(f"votes hold the choice {unknown[0]!r}; expected one of {', '.join(CHOICES)}")
    return CodedVotes(
        comparison=Names.of(votes["comparison_id"]),
        annotator=Names.of(votes["annotator"]),
        criterion=Names.of(votes["criterion"]),
        source=Names.of(votes["source"], "unknown"),
        choice=_places(votes["choice"], CHOICES),
        side=np.array([1, -1, 0])[_places(votes["left"], ("a", "b"))],  # −1, the last, is neither
        repeat=votes["repeat"].fillna(0).to_numpy(dtype=np.int64),
    )


def _places(column: pd.Series, known: tuple[str, ...]) -> np.ndarray:
    """Places in `known`, [V]; −1 for everything else."""
    code, names = pd.factorize(column)
    place = {name: number for number, name in enumerate(known)}
    places = np.array([*(place.get(name, -1) for name in names), -1], dtype=np.int64)
    return places[code]
