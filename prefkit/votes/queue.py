"""Who is asked what next.

The queue lives in the database: a lease says who is looking at a comparison, and it keeps others away
until it is answered or expires. Each comparison gets its `target_votes` annotators, nobody is asked
twice, and several servers may hand out comparisons of one store at once.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.votes.schema import leases, live_votes, votes
from prefkit.votes.sides import left_side
from prefkit.votes.store import (
    VoteStore,
    ensure_annotators,
    exclusion_reason,
    insert_votes,
    undo_row,
    unrecorded,
    utc_now,
)

_FIRST = datetime.min.replace(tzinfo=UTC)  # a lease of that time comes before all others of its holder


class NotLeased(PrefkitError):
    """A vote on a comparison that was not handed to this annotator."""


@dataclass(frozen=True)
class Assignment:
    """One comparison in one annotator's hands. `left` is "a" or "b": the clip to show on the left."""

    comparison_id: str
    left: str


@dataclass(frozen=True)
class Progress:
    """How many comparisons an annotator has answered or skipped, and how many there are for them in all."""

    done: int
    total: int


@dataclass(frozen=True)
class _State:
    answered_by_me: set[str]
    votes_of: dict[str, int]  # comparison -> annotators who answered; a skip is no answer
    held_by_me: list[str]  # oldest first
    held_by_others: dict[str, int]


class Queue:
    """Hands out the comparisons of a workspace, in their order.

    Args:
        store: where votes and leases are.
        comparisons: rows of `prefkit.tables.COMPARISONS`.
        source: what votes are marked with: human or simulated.
        lease_seconds: how long a comparison is kept for one annotator.
    """

    def __init__(
        self, store: VoteStore, comparisons: pd.DataFrame, *, source: str = "human", lease_seconds: float = 900.0
    ):
        self.store = store
        self.source = source
        self.lease_time = timedelta(seconds=lease_seconds)
        targets = comparisons["target_votes"].fillna(1).astype(int)
        self.targets: dict[str, int] = dict(zip(comparisons["comparison_id"], targets, strict=True))

    def lease(
        self, annotator: str, limit: int = 1, *, among: Collection[str] | None = None, now: datetime | None = None
    ) -> list[Assignment]:
        """Leases up to `limit` comparisons: first those the annotator still holds, then new ones.

        Args:
            annotator: a pseudonym; unknown ones are registered.
            limit: how many at most.
            among: ids to choose from; None for all.
            now: the time, for tests.

        Raises:
            PrefkitError: the annotator is excluded.
        """
        now = now or utc_now()
        with self.store.writing() as connection:
            ensure_annotators(connection, {annotator: self.source})
            reason = exclusion_reason(connection, annotator)
            if reason is not None:
                raise PrefkitError(f"annotator {annotator!r} is excluded ({reason}); ask whoever runs this annotation")
            state = self._state(connection, annotator, now)
            held = [comparison for comparison in state.held_by_me if among is None or comparison in among]
            open_now = [comparison for comparison in self._open(state) if among is None or comparison in among]
            chosen = (held + open_now)[:limit]
            _renew(connection, annotator, chosen, now, now + self.lease_time)
        return [Assignment(comparison, left_side(annotator, comparison)) for comparison in chosen]

    def answer(self, annotator: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Stores one annotator's votes on comparisons they lease and gives the leases back, in one transaction.

        Votes that are stored already are left alone, so a ballot may be sent again. An expired lease
        will do: the work is done, at worst a comparison has one vote more than it needs.

        Returns:
            How many votes were new.

        Raises:
            NotLeased: a comparison was not handed to this annotator, or is already answered by them.
            VoteConflict: a vote contradicts a stored one.
        """
        with self.store.writing() as connection:
            new = unrecorded(connection, rows)
            if not new:
                return 0
            mine = sa.select(leases.c.comparison_id).where(leases.c.annotator == annotator)
            held = set(connection.scalars(mine))
            for row in new:
                if row["annotator"] != annotator or row["comparison_id"] not in held:
                    raise NotLeased(
                        f"comparison {row['comparison_id']} was not handed to {annotator!r} or is already answered; "
                        "reload the page for the next one"
                    )
            insert_votes(connection, new)
            _give_back(connection, annotator, {row["comparison_id"] for row in new})
        return len(new)

    def undo(self, annotator: str, comparison_id: str, *, now: datetime | None = None) -> Assignment:
        """Takes back an annotator's votes on a comparison and hands it to them again.

        Doing it twice changes nothing.

        Raises:
            NotLeased: the annotator has no vote on it.
        """
        now = now or utc_now()
        with self.store.writing() as connection:
            mine = (votes.c.annotator == annotator) & (votes.c.comparison_id == comparison_id)
            standing = connection.execute(live_votes().where(mine)).mappings().all()
            own_lease = (leases.c.annotator == annotator) & (leases.c.comparison_id == comparison_id)
            if not standing and not connection.scalar(sa.select(sa.exists().where(own_lease))):
                raise NotLeased(f"{annotator!r} has no vote on comparison {comparison_id} to undo")
            insert_votes(connection, [undo_row(dict(row)) for row in standing])
            _renew(connection, annotator, [comparison_id], _FIRST, now + self.lease_time)
        return Assignment(comparison_id, left_side(annotator, comparison_id))

    def previous(self, annotator: str) -> str | None:
        """The comparison this annotator answered last, or None."""
        query = live_votes(votes.c.comparison_id).where(votes.c.annotator == annotator)
        with self.store.reading() as connection:
            return connection.scalar(query.order_by(votes.c.created_at.desc(), votes.c.vote_id).limit(1))

    def progress(self, annotator: str, *, now: datetime | None = None) -> Progress:
        """How far this annotator is; what others fill meanwhile leaves the total."""
        with self.store.reading() as connection:
            state = self._state(connection, annotator, now or utc_now())
        done = len(state.answered_by_me & self.targets.keys())
        return Progress(done, done + len(state.held_by_me) + len(self._open(state)))

    def _state(self, connection: sa.Connection, annotator: str, now: datetime) -> _State:
        answered = live_votes(votes.c.comparison_id).where(votes.c.annotator == annotator).distinct()
        counts = (
            live_votes(votes.c.comparison_id, sa.func.count(votes.c.annotator.distinct()))
            .where(votes.c.choice != "skip")
            .group_by(votes.c.comparison_id)
        )
        oldest_first = (leases.c.leased_at, leases.c.comparison_id)
        current = sa.select(leases).where(leases.c.expires_at > now).order_by(*oldest_first)
        held_by_me: list[str] = []
        held_by_others: dict[str, int] = {}
        for lease in connection.execute(current).mappings():
            comparison = lease["comparison_id"]
            if lease["annotator"] != annotator:
                held_by_others[comparison] = held_by_others.get(comparison, 0) + 1
            elif comparison in self.targets:
                held_by_me.append(comparison)
        return _State(
            answered_by_me=set(connection.scalars(answered)),
            votes_of={row[0]: row[1] for row in connection.execute(counts)},
            held_by_me=held_by_me,
            held_by_others=held_by_others,
        )

    def _open(self, state: _State) -> list[str]:
        taken = state.answered_by_me.union(state.held_by_me)
        return [
            comparison
            for comparison, target in self.targets.items()
            if comparison not in taken
            and state.votes_of.get(comparison, 0) + state.held_by_others.get(comparison, 0) < target
        ]


def _renew(
    connection: sa.Connection, annotator: str, comparisons: Collection[str], leased_at: datetime, expires_at: datetime
) -> None:
    mine = sa.select(leases.c.comparison_id, leases.c.leased_at).where(leases.c.annotator == annotator)
    known: dict[str, datetime] = {row.comparison_id: row.leased_at for row in connection.execute(mine)}
    # A comparison that is still held keeps its place; one whose lease had run out is held anew.
    _give_back(connection, annotator, comparisons)
    rows = [
        {
            "comparison_id": comparison,
            "annotator": annotator,
            "leased_at": min(known.get(comparison, leased_at), leased_at),
            "expires_at": expires_at,
        }
        for comparison in comparisons
    ]
    if rows:
        connection.execute(leases.insert(), rows)


def _give_back(connection: sa.Connection, annotator: str, comparisons: Collection[str]) -> None:
    if not comparisons:
        return
    one = leases.delete().where(leases.c.annotator == annotator, leases.c.comparison_id == sa.bindparam("which"))
    connection.execute(one, [{"which": comparison} for comparison in comparisons])
