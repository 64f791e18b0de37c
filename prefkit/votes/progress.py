"""How far the annotation is, whose turn comes first, and who has worked how long."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.tables import CANDIDATES, COMPARISONS
from prefkit.votes.quality import working_hours
from prefkit.votes.questions import chunks, synchronise
from prefkit.votes.schema import questions
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace


@dataclass(frozen=True)
class Done:
    """Comparisons that want no more answers, and how many there are; `wanted` answers are still to come."""

    done: int
    total: int
    wanted: int


def progress(store: VoteStore) -> dict[str, Done]:
    """Purpose -> how far; gold questions, which never end, are left out."""
    query = (
        sa.select(
            questions.c.purpose,
            sa.func.sum(sa.case((questions.c.wanted == 0, 1), else_=0)),
            sa.func.count(),
            sa.func.sum(questions.c.wanted),
        )
        .where(questions.c.purpose != "gold")
        .group_by(questions.c.purpose)
    )
    with store.reading() as connection:
        return {row[0]: Done(int(row[1]), int(row[2]), int(row[3])) for row in connection.execute(query)}


def prioritise(store: VoteStore, comparisons: pd.DataFrame, chosen: Collection[str], priority: int) -> None:
    """Has some comparisons asked before those of lower priority.

    Args:
        store: the vote store.
        comparisons: all rows of `prefkit.tables.COMPARISONS`.
        chosen: ids.
        priority: higher comes first; 0 is usual.

    Raises:
        PrefkitError: an id of no comparison.
    """
    unknown = set(chosen) - set(comparisons["comparison_id"])
    if unknown:
        raise PrefkitError(f"there is no comparison {sorted(unknown)[0]!r} in this workspace")
    with store.writing() as connection:
        synchronise(connection, comparisons)
        for ids in chunks(sorted(chosen)):
            connection.execute(questions.update().where(questions.c.comparison_id.in_(ids)).values(priority=priority))


def clip_seconds(workspace: Workspace) -> dict[str, float]:
    """Comparison -> how long the longer of its clips is, where that is known."""
    lengths = {
        row["candidate_id"]: row["num_frames"] / row["fps"]
        for row in workspace.rows(CANDIDATES)
        if row["num_frames"] and row["fps"]
    }
    found = {}
    for row in workspace.rows(COMPARISONS):
        both = [lengths[row[side]] for side in ("candidate_a", "candidate_b") if row[side] in lengths]
        if both:
            found[row["comparison_id"]] = max(both)
    return found


def hours(store: VoteStore) -> pd.DataFrame:
    """Hours and ballots per annotator, for pay: undone, repeated and excluded ballots count too, they were work."""
    cast = store.all_votes()
    cast = cast[cast["choice"].notna()]
    rows = []
    for (annotator, source), mine in cast.groupby(["annotator", "source"], sort=True):
        ballots = mine.drop_duplicates(["comparison_id", "repeat", "created_at"])
        first, last = ballots["created_at"].min(), ballots["created_at"].max()
        rows.append((annotator, source, len(ballots), round(working_hours(ballots), 3), first, last))
    return pd.DataFrame(rows, columns=["annotator", "source", "ballots", "hours", "first", "last"])
