"""How many answers each question still wants, counted from the votes.

The count is kept beside the question and made anew from the votes whenever they change, in the same
transaction, so that handing out a question needs no look at all votes and nothing can drift apart.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from prefkit.votes.schema import live_votes, questions, verdicts, votes

UNLIMITED = 1_000_000  # gold questions are for everybody


def answers_wanted(
    target: int, stop_margin: int | None, voters: int, tallies: Iterable[Mapping[str, int]], decided: bool = False
) -> int:
    """How many more annotators a question needs now; also how many may look at it at the same time.

    Sequential stopping (Wald): with a margin, asking ends as soon as on every criterion one answer leads
    the next one by that many votes, and at `target` at the latest. No more are let in at once than could
    end it, so that none of their answers is superfluous.

    Args:
        target: of answers, at most.
        stop_margin: or None to ask `target` annotators in any case.
        voters: annotators who have answered.
        tallies: for each criterion, votes by choice, without skips.
        decided: whether a lead has settled it.
    """
    if decided:
        return 0
    left = max(0, target - voters)
    if stop_margin is None or left == 0:
        return left
    leads = [_lead(tally) for tally in tallies]
    return min(left, max(0, stop_margin - min(leads, default=0)))


def _lead(tally: Mapping[str, int]) -> int:
    first, second, *_ = sorted(tally.values(), reverse=True) + [0, 0]
    return first - second


def synchronise(connection: sa.Connection, comparisons: pd.DataFrame) -> int:
    """Makes the questions what the workspace's comparisons say; priorities stay.

    Args:
        connection: in a writing transaction.
        comparisons: rows of `prefkit.tables.COMPARISONS`; `purpose` and `stop_margin` may be missing.

    Returns:
        How many questions the store knows, those of other comparisons included.
    """
    stored = {row["comparison_id"]: dict(row) for row in connection.execute(sa.select(questions)).mappings()}
    new, changed = [], []
    for row in _rows(comparisons):
        old = stored.get(row["comparison_id"])
        if old is None:
            new.append(row | {"priority": 0, "wanted": 0})
        elif any(old[name] != row[name] for name in row):
            changed.append({f"new_{name}": value for name, value in row.items()})
    if new:
        connection.execute(questions.insert(), new)
    if changed:
        columns = ("purpose", "position", "target_votes", "stop_margin")
        statement = questions.update().where(questions.c.comparison_id == sa.bindparam("new_comparison_id"))
        connection.execute(statement.values({name: sa.bindparam(f"new_{name}") for name in columns}), changed)
    recount(connection, [row["comparison_id"] for row in new] + [row["new_comparison_id"] for row in changed])
    return len(stored) + len(new)


def recount(connection: sa.Connection, comparison_ids: Collection[str]) -> None:
    """Counts again what these questions want; ids of no question are passed over."""
    for ids in chunks(sorted(comparison_ids)):
        asked = connection.execute(sa.select(questions).where(questions.c.comparison_id.in_(ids))).mappings().all()
        if not asked:
            continue
        voters: dict[str, set[str]] = defaultdict(set)
        tallies: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        columns = (votes.c.comparison_id, votes.c.annotator, votes.c.criterion, votes.c.choice)
        counted = live_votes(*columns).where(
            votes.c.comparison_id.in_(ids), votes.c.repeat == 0, votes.c.choice != "skip"
        )
        for comparison, annotator, criterion, choice in connection.execute(counted):
            voters[comparison].add(annotator)
            tallies[comparison][criterion][choice] += 1
        settled = _settled(connection, ids)
        now = [
            {
                "which": row["comparison_id"],
                "how_many": UNLIMITED
                if row["purpose"] == "gold"
                else answers_wanted(
                    row["target_votes"],
                    row["stop_margin"],
                    len(voters[row["comparison_id"]]),
                    tallies[row["comparison_id"]].values(),
                    row["comparison_id"] in settled,
                ),
            }
            for row in asked
        ]
        one = questions.update().where(questions.c.comparison_id == sa.bindparam("which"))
        connection.execute(one.values(wanted=sa.bindparam("how_many")), now)


def chunks(items: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Cuts a list of ids: databases limit the number of variables in one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _settled(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    adjudicated = (verdicts.c.kind == "adjudication") & verdicts.c.lifted_at.is_(None)
    return set(
        connection.scalars(sa.select(verdicts.c.comparison_id).where(adjudicated, verdicts.c.comparison_id.in_(ids)))
    )


def _rows(comparisons: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for position, row in enumerate(comparisons.to_dict("records")):
        target, margin = row.get("target_votes"), row.get("stop_margin")
        yield {
            "comparison_id": row["comparison_id"],
            "purpose": row.get("purpose") or "train",
            "position": position,
            "target_votes": 1 if pd.isna(target) else int(target),
            "stop_margin": None if pd.isna(margin) else int(margin),
        }
