"""The SQL tables of the vote store.

The votes table has exactly the columns of `prefkit.tables.VOTES`. Its rows are never changed: an undo
or a correction is a new row that supersedes an old one.
"""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from prefkit.tables import CHOICES, VOTES

SCHEMA_VERSION = 1


class UtcTime(sa.TypeDecorator[datetime]):
    """Aware times in, aware UTC times out; SQLite itself keeps no time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Refuses naive times: nobody could tell later which zone they meant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Gives back the zone that SQLite dropped."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


_SQL_TYPES: dict[pa.DataType, Any] = {
    pa.string(): sa.Text,
    pa.int64(): sa.BigInteger,
    pa.float64(): sa.Double,
    pa.timestamp("us", tz="UTC"): UtcTime,
}
_REQUIRED = {"comparison_id", "annotator", "criterion", "repeat", "left", "source", "created_at"}

metadata = sa.MetaData()

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))

annotators = sa.Table(
    "annotators",
    metadata,
    sa.Column("annotator", sa.Text, primary_key=True),  # a pseudonym
    sa.Column("source", sa.Text, nullable=False),  # human, simulated, …
    sa.Column("details", sa.Text),  # JSON: what is known about them, e.g. a simulated one's error rate
    sa.Column("created_at", UtcTime, nullable=False),
)


def _vote_column(field: pa.Field) -> sa.Column[Any]:
    kind = _SQL_TYPES[field.type]
    if field.name == "vote_id":
        return sa.Column("vote_id", kind, primary_key=True)
    if field.name == "annotator":
        return sa.Column("annotator", kind, sa.ForeignKey("annotators.annotator"), nullable=False)
    if field.name == "supersedes":
        # A vote is replaced or undone at most once, whoever asks how often.
        return sa.Column("supersedes", kind, sa.ForeignKey("votes.vote_id"), unique=True)
    return sa.Column(field.name, kind, nullable=field.name not in _REQUIRED)


votes = sa.Table(
    "votes",
    metadata,
    *[_vote_column(field) for field in VOTES.schema],
    sa.CheckConstraint("choice IN ({})".format(", ".join(f"'{choice}'" for choice in CHOICES)), name="choice_known"),
    sa.CheckConstraint("choice IS NOT NULL OR supersedes IS NOT NULL", name="only_an_undo_has_no_choice"),
    sa.CheckConstraint("\"left\" IN ('a', 'b')", name="left_is_a_or_b"),
)
sa.Index("votes_by_question", votes.c.comparison_id, votes.c.annotator)
sa.Index("votes_by_annotator", votes.c.annotator)

# Who is looking at what. An expired lease no longer keeps others away, but its holder may still answer.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("comparison_id", sa.Text, primary_key=True),
    sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.annotator"), primary_key=True),
    sa.Column("leased_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
)

# Whose votes are left out, and why. A decision that was taken back keeps its row.
exclusions = sa.Table(
    "exclusions",
    metadata,
    sa.Column("exclusion_id", sa.Integer, primary_key=True),
    sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.annotator"), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("lifted_at", UtcTime),
)


def excluded_annotators() -> sa.Select[Any]:
    """Selects the names of annotators who are left out now."""
    return sa.select(exclusions.c.annotator).where(exclusions.c.lifted_at.is_(None))


def live_votes(*columns: Any) -> sa.Select[Any]:
    """Selects the votes that count: neither undone nor replaced, and not by an excluded annotator."""
    newer = votes.alias("newer")
    replaced = sa.exists().where(newer.c.supersedes == votes.c.vote_id)
    return (
        sa.select(*(columns or (votes,)))
        .where(votes.c.choice.is_not(None), ~replaced)
        .where(votes.c.annotator.not_in(excluded_annotators()))
    )
