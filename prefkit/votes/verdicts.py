"""What a lead decides: the right answers to gold questions, and how disagreements end."""

import uuid
from collections.abc import Mapping

import pandas as pd
import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.votes.questions import recount
from prefkit.votes.schema import verdicts
from prefkit.votes.store import VoteStore, utc_now

KINDS = ("gold", "adjudication")
ANSWERS = ("a", "b", "tie", "both_bad")


def decide(
    store: VoteStore, comparison_id: str, choices: Mapping[str, str], *, kind: str, by: str, note: str | None = None
) -> None:
    """Records the lead's answer on some criteria of a comparison; an older one is lifted and stays on record.

    An adjudication ends the asking and stands for all votes on its criteria (`VoteStore.votes`); a gold
    answer is what annotators are measured by.

    Args:
        store: the vote store.
        comparison_id: which comparison.
        choices: criterion -> a, b, tie or both_bad.
        kind: one of `KINDS`.
        by: the lead's name.
        note: why.

    Raises:
        PrefkitError: an unknown kind or choice.
    """
    if kind not in KINDS:
        raise PrefkitError(f"there is no verdict of kind {kind!r}; expected gold or adjudication")
    for criterion, choice in choices.items():
        if choice not in ANSWERS:
            raise PrefkitError(f"the verdict on {criterion} is {choice!r}; expected one of {', '.join(ANSWERS)}")
    with store.writing() as connection:
        now = utc_now()
        old = _open(comparison_id, kind) & verdicts.c.criterion.in_(list(choices))
        connection.execute(verdicts.update().where(old).values(lifted_at=now))
        rows = [
            {
                "verdict_id": uuid.uuid4().hex,
                "comparison_id": comparison_id,
                "criterion": criterion,
                "kind": kind,
                "choice": choice,
                "decided_by": by,
                "note": note,
                "created_at": now,
            }
            for criterion, choice in choices.items()
        ]
        connection.execute(verdicts.insert(), rows)
        recount(connection, [comparison_id])


def lift(store: VoteStore, comparison_id: str, *, kind: str) -> int:
    """Takes the verdicts on a comparison back and returns how many; they stay on record."""
    with store.writing() as connection:
        lifted = connection.execute(
            verdicts.update().where(_open(comparison_id, kind)).values(lifted_at=utc_now())
        ).rowcount
        recount(connection, [comparison_id])
    return lifted


def read_verdicts(store: VoteStore, kind: str) -> pd.DataFrame:
    """The verdicts of one kind that hold: comparison_id, criterion, choice, decided_by, note, created_at."""
    columns = [verdicts.c[n] for n in ("comparison_id", "criterion", "choice", "decided_by", "note", "created_at")]
    query = sa.select(*columns).where(verdicts.c.kind == kind, verdicts.c.lifted_at.is_(None))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(verdicts.c.created_at, verdicts.c.verdict_id)).mappings().all()
    return pd.DataFrame([dict(row) for row in rows], columns=[column.name for column in columns])


def _open(comparison_id: str, kind: str) -> sa.ColumnElement[bool]:
    return (verdicts.c.comparison_id == comparison_id) & (verdicts.c.kind == kind) & verdicts.c.lifted_at.is_(None)
