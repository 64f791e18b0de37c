"""Who is asked what next.

The queue lives in the database: a lease says who is looking at a comparison, and it keeps others away
until it is answered or expires. Each comparison gets as many annotators as it wants (see
`prefkit.votes.questions`), nobody is asked twice but for marked repeats, and several servers may hand out
comparisons of one store at once.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.votes.questions import chunks, synchronise
from prefkit.votes.schema import exclusions, leases, live_votes, questions, standing, verdicts, votes
from prefkit.votes.sides import left_side
from prefkit.votes.store import (
    VoteStore,
    ensure_annotators,
    exclude,
    exclusion_reason,
    insert_votes,
    undo_row,
    unrecorded,
    utc_now,
)

_BEFORE = timedelta(seconds=1)
QUALIFICATION = "qualification round"


class NotLeased(PrefkitError):
    """A vote on a comparison that was not handed to this annotator."""


@dataclass(frozen=True)
class QueueRules:
    """What is mixed into the comparisons that want votes.

    Attributes:
        gold_rate: share of gold questions, 0 to 1. One is asked where a lead has given its answer.
        repeat_rate: share of comparisons asked a second time, for self-consistency, 0 to 1.
        repeat_gap: comparisons an annotator answers before one comes up again, at least.
        qualification: gold questions that come first of all; 0 for none.
        qualification_accuracy: share of their criteria to get right; who does not is excluded, on record.
    """

    gold_rate: float = 0.0
    repeat_rate: float = 0.0
    repeat_gap: int = 10
    qualification: int = 0
    qualification_accuracy: float = 0.7


@dataclass(frozen=True)
class Assignment:
    """One comparison in one annotator's hands.

    Attributes:
        comparison_id: which.
        left: "a" or "b": the clip to show on the left.
        repeat: 0, or n when it is asked for the n-th time again.
    """

    comparison_id: str
    left: str
    repeat: int = 0


@dataclass(frozen=True)
class Progress:
    """How many comparisons an annotator has answered or skipped, and how many there are for them in all."""

    done: int
    total: int


class Queue:
    """Hands out the comparisons of a workspace, those of higher priority first, else in their order.

    Args:
        store: where votes and leases are.
        comparisons: rows of `prefkit.tables.COMPARISONS`.
        source: what votes are marked with: human or simulated.
        lease_seconds: how long a comparison is kept for one annotator.
        rules: what is mixed in.
    """

    def __init__(
        self,
        store: VoteStore,
        comparisons: pd.DataFrame,
        *,
        source: str = "human",
        lease_seconds: float = 900.0,
        rules: QueueRules | None = None,
    ):
        self.store = store
        self.source = source
        self.rules = rules or QueueRules()
        self.lease_time = timedelta(seconds=lease_seconds)
        targets = comparisons["target_votes"].fillna(1).astype(int)
        self.targets: dict[str, int] = dict(zip(comparisons["comparison_id"], targets, strict=True))
        with store.writing() as connection:
            self._all_mine = synchronise(connection, comparisons) == len(self.targets)

    def lease(
        self, annotator: str, limit: int = 1, *, among: Collection[str] | None = None, now: datetime | None = None
    ) -> list[Assignment]:
        """Leases up to `limit` comparisons: first those the annotator still holds, then new ones.

        Args:
            annotator: a pseudonym; unknown ones are registered.
            limit: how many at most.
            among: ids to choose from, with nothing mixed in; None for all.
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
            held = self._held(connection, annotator, now)
            chosen = [one for one in held if among is None or one.comparison_id in among][:limit]
            if among is not None:
                found = self._open(connection, annotator, now, limit - len(chosen), among=among)
                chosen += [_assign(annotator, comparison) for comparison in found]
            else:
                self._fill(connection, annotator, now, chosen, limit)
            _renew(connection, annotator, chosen, now, now + self.lease_time)
        return chosen

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
            mine = sa.select(leases.c.comparison_id, leases.c.repeat).where(leases.c.annotator == annotator)
            held = {tuple(row) for row in connection.execute(mine)}
            for row in new:
                if row["annotator"] != annotator or (row["comparison_id"], row["repeat"]) not in held:
                    raise NotLeased(
                        f"comparison {row['comparison_id']} was not handed to {annotator!r} or is already answered; "
                        "reload the page for the next one"
                    )
            insert_votes(connection, new)
            _give_back(connection, annotator, {row["comparison_id"] for row in new})
            if self.rules.qualification:
                self._qualify(connection, annotator)
        return len(new)

    def undo(self, annotator: str, comparison_id: str, *, now: datetime | None = None) -> Assignment:
        """Takes back an annotator's latest votes on a comparison and hands it to them again.

        Doing it twice changes nothing.

        Raises:
            NotLeased: the annotator has no vote on it.
        """
        now = now or utc_now()
        with self.store.writing() as connection:
            own_lease = (leases.c.annotator == annotator) & (leases.c.comparison_id == comparison_id)
            leased = connection.scalar(sa.select(leases.c.repeat).where(own_lease))
            mine = (votes.c.annotator == annotator) & (votes.c.comparison_id == comparison_id)
            rows = [dict(row) for row in connection.execute(live_votes().where(mine)).mappings()]
            if not rows and leased is None:
                raise NotLeased(f"{annotator!r} has no vote on comparison {comparison_id} to undo")
            repeat = leased if leased is not None else max(row["repeat"] for row in rows)
            insert_votes(connection, [undo_row(row) for row in rows if row["repeat"] == repeat])
            again = _assign(annotator, comparison_id, repeat)
            earliest = connection.scalar(
                sa.select(sa.func.min(leases.c.leased_at)).where(leases.c.annotator == annotator)
            )
            # What was undone last comes up first.
            _renew(connection, annotator, [again], min(earliest or now, now) - _BEFORE, now + self.lease_time)
        return again

    def previous(self, annotator: str) -> str | None:
        """The comparison this annotator answered last, or None."""
        query = live_votes(votes.c.comparison_id).where(votes.c.annotator == annotator)
        with self.store.reading() as connection:
            return connection.scalar(query.order_by(votes.c.created_at.desc(), votes.c.vote_id).limit(1))

    def progress(self, annotator: str, *, now: datetime | None = None) -> Progress:
        """How far this annotator is; what others fill meanwhile leaves the total, gold and repeats are not counted."""
        now = now or utc_now()
        with self.store.reading() as connection:
            answered = live_votes(votes.c.comparison_id).where(votes.c.annotator == annotator).distinct()
            done = len(set(connection.scalars(answered)) & self.targets.keys())
            held = sum(one.repeat == 0 for one in self._held(connection, annotator, now))
            return Progress(done, done + held + self._count_open(connection, annotator, now))

    def _held(self, connection: sa.Connection, annotator: str, now: datetime) -> list[Assignment]:
        mine = (leases.c.annotator == annotator) & (leases.c.expires_at > now)
        rows = connection.execute(
            sa.select(leases.c.comparison_id, leases.c.repeat)
            .where(mine)
            .order_by(leases.c.leased_at, leases.c.comparison_id)
        )
        return [_assign(annotator, row.comparison_id, row.repeat) for row in rows if row.comparison_id in self.targets]

    def _fill(
        self, connection: sa.Connection, annotator: str, now: datetime, chosen: list[Assignment], limit: int
    ) -> None:
        """Adds to `chosen`, in place, one after the other: gold and repeats fall where their rates say."""
        if not (self.rules.gold_rate or self.rules.repeat_rate or self.rules.qualification):
            found = self._open(connection, annotator, now, limit - len(chosen))
            chosen += [_assign(annotator, comparison) for comparison in found]
            return
        turn = _count_answered(connection, annotator) + len(chosen)
        while len(chosen) < limit:
            taken = {one.comparison_id for one in chosen}
            one = self._mixed_in(connection, annotator, turn, taken)
            if one is None:
                found = self._open(connection, annotator, now, 1, without=taken)
                if not found:
                    return
                one = _assign(annotator, found[0])
            chosen.append(one)
            turn += 1

    def _mixed_in(self, connection: sa.Connection, annotator: str, turn: int, taken: set[str]) -> Assignment | None:
        """A gold question or a repeat, if it is time for one."""
        rules = self.rules
        if turn < rules.qualification or _share(annotator, turn, "gold") < rules.gold_rate:
            gold = self._gold(connection, annotator, taken)
            if gold is not None:
                return _assign(annotator, gold)
        if _share(annotator, turn, "repeat") < rules.repeat_rate:
            repeated = self._repeatable(connection, annotator, taken)
            if repeated is not None:
                return _assign(annotator, repeated, 1)
        return None

    def _gold(self, connection: sa.Connection, annotator: str, taken: set[str]) -> str | None:
        known = sa.exists().where(
            verdicts.c.comparison_id == questions.c.comparison_id,
            verdicts.c.kind == "gold",
            verdicts.c.lifted_at.is_(None),
        )
        query = (
            sa.select(questions.c.comparison_id)
            .where(questions.c.purpose == "gold", known, ~_answered_by(annotator))
            .order_by(questions.c.position, questions.c.comparison_id)
        )
        return next((one for one in connection.scalars(query) if one in self.targets and one not in taken), None)

    def _repeatable(self, connection: sa.Connection, annotator: str, taken: set[str]) -> str | None:
        """The oldest answer of this annotator that is old enough and was not asked again yet."""
        query = (
            live_votes(votes.c.comparison_id, sa.func.max(votes.c.repeat), sa.func.min(votes.c.created_at))
            .join(questions, questions.c.comparison_id == votes.c.comparison_id)
            .where(votes.c.annotator == annotator, votes.c.choice != "skip", questions.c.purpose != "gold")
            .group_by(votes.c.comparison_id)
            .order_by(sa.func.min(votes.c.created_at), votes.c.comparison_id)
        )
        rows = connection.execute(query).all()
        old = rows[: max(0, len(rows) - self.rules.repeat_gap)]
        return next((row[0] for row in old if row[1] == 0 and row[0] in self.targets and row[0] not in taken), None)

    def _open(
        self,
        connection: sa.Connection,
        annotator: str,
        now: datetime,
        count: int,
        *,
        among: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        """Up to `count` comparisons that want one more answer and may go to this annotator."""
        if count <= 0:
            return []
        query = _open_for(annotator, now)
        if among is not None:
            allowed = sorted(set(among) & self.targets.keys())
            parts = [connection.scalars(query.where(questions.c.comparison_id.in_(ids))) for ids in chunks(allowed)]
            return [one for part in parts for one in part][:count]
        query = query.where(questions.c.purpose != "gold") if self._has_gold_rules else query
        found: list[str] = []
        page = count + len(without) if self._all_mine else 500
        for start in range(0, 10**9, page):
            part = connection.scalars(query.offset(start).limit(page)).all()
            found += [one for one in part if one in self.targets and one not in without]
            if len(found) >= count or len(part) < page:
                return found[:count]
        return found

    @property
    def _has_gold_rules(self) -> bool:
        return bool(self.rules.gold_rate or self.rules.qualification)

    def _count_open(self, connection: sa.Connection, annotator: str, now: datetime) -> int:
        query = _open_for(annotator, now).where(questions.c.purpose != "gold")
        if self._all_mine:
            return connection.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())) or 0
        return sum(one in self.targets for one in connection.scalars(query))

    def _qualify(self, connection: sa.Connection, annotator: str) -> None:
        """Excludes who got too many of the first gold questions wrong, once; a lead may undo it."""
        right = _gold_results(connection, annotator)
        if len(right) < self.rules.qualification:
            return
        first = [share for _, share in right[: self.rules.qualification]]
        decided = (exclusions.c.annotator == annotator) & exclusions.c.reason.startswith(QUALIFICATION)
        before = connection.scalar(sa.select(sa.exists().where(decided)))
        reached = sum(first) / len(first)
        if before or reached >= self.rules.qualification_accuracy:
            return
        exclude(connection, annotator, f"{QUALIFICATION}: {reached:.0%} of the gold answers right", None)


def _open_for(annotator: str, now: datetime) -> sa.Select[Any]:
    """Selects what may go to this annotator, in order."""
    in_hands = (
        sa.select(sa.func.count())
        .select_from(leases)
        .where(
            leases.c.comparison_id == questions.c.comparison_id,
            leases.c.annotator != annotator,
            leases.c.expires_at > now,
            leases.c.repeat == 0,
        )
        .scalar_subquery()
    )
    held = sa.exists().where(
        leases.c.comparison_id == questions.c.comparison_id,
        leases.c.annotator == annotator,
        leases.c.expires_at > now,
    )
    return (
        sa.select(questions.c.comparison_id)
        .where(questions.c.wanted > 0, ~_answered_by(annotator), ~held, questions.c.wanted > in_hands)
        .order_by(questions.c.priority.desc(), questions.c.position, questions.c.comparison_id)
    )


def _answered_by(annotator: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        votes.c.comparison_id == questions.c.comparison_id, votes.c.annotator == annotator, standing()
    )


def _count_answered(connection: sa.Connection, annotator: str) -> int:
    """Ballots that stand, repeats too."""
    ballots = live_votes(votes.c.comparison_id, votes.c.repeat).where(votes.c.annotator == annotator).distinct()
    return connection.scalar(sa.select(sa.func.count()).select_from(ballots.subquery())) or 0


def _gold_results(connection: sa.Connection, annotator: str) -> list[tuple[datetime, float]]:
    """For each gold question this annotator has answered, by time: when, and the share of criteria they got right."""
    rows = connection.execute(
        sa.select(votes.c.comparison_id, votes.c.created_at, votes.c.choice, verdicts.c.choice)
        .join(
            verdicts,
            (verdicts.c.comparison_id == votes.c.comparison_id) & (verdicts.c.criterion == votes.c.criterion),
        )
        .where(votes.c.annotator == annotator, standing(), verdicts.c.kind == "gold", verdicts.c.lifted_at.is_(None))
    )
    answers: dict[str, list[tuple[datetime, bool]]] = {}
    for comparison, when, said, right in rows:
        answers.setdefault(comparison, []).append((when, said == right))
    return sorted(
        (min(when for when, _ in found), sum(ok for _, ok in found) / len(found)) for found in answers.values()
    )


def _share(*parts: Any) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _assign(annotator: str, comparison_id: str, repeat: int = 0) -> Assignment:
    return Assignment(comparison_id, left_side(annotator, comparison_id, repeat), repeat)


def _renew(
    connection: sa.Connection,
    annotator: str,
    assignments: Collection[Assignment],
    leased_at: datetime,
    expires_at: datetime,
) -> None:
    mine = sa.select(leases.c.comparison_id, leases.c.leased_at).where(leases.c.annotator == annotator)
    known: dict[str, datetime] = {row.comparison_id: row.leased_at for row in connection.execute(mine)}
    # A comparison that is still held keeps its place; one whose lease had run out is held anew.
    _give_back(connection, annotator, {one.comparison_id for one in assignments})
    rows = [
        {
            "comparison_id": one.comparison_id,
            "annotator": annotator,
            # a microsecond apart, so that those leased together keep their order
            "leased_at": min(known.get(one.comparison_id, leased_at), leased_at) + timedelta(microseconds=place),
            "expires_at": expires_at,
            "repeat": one.repeat,
        }
        for place, one in enumerate(assignments)
    ]
    if rows:
        connection.execute(leases.insert(), rows)


def _give_back(connection: sa.Connection, annotator: str, comparisons: Collection[str]) -> None:
    if not comparisons:
        return
    one = leases.delete().where(leases.c.annotator == annotator, leases.c.comparison_id == sa.bindparam("which"))
    connection.execute(one, [{"which": comparison} for comparison in comparisons])
