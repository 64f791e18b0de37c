"""The SQL tables of the vote store.

The votes table has exactly the columns of `prefkit.tables.VOTES`. Its rows are never changed: an undo
or a correction is a new row that supersedes an old one. They go only when a person withdraws consent.

What an older store lacks is added by the steps in `prefkit/votes/migrations`.
"""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from prefkit.tables import CHOICES, VOTES


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
        """Gives back the zone that SQLite dropped; PostgreSQL answers in the zone of its session."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


_SQL_TYPES: dict[pa.DataType, Any] = {
    pa.string(): sa.Text,
    pa.int64(): sa.BigInteger,
    pa.float64(): sa.Double,
    pa.timestamp("us", tz="UTC"): UtcTime,
}
_REQUIRED = {"comparison_id", "annotator", "criterion", "repeat", "left", "source", "created_at"}

metadata = sa.MetaData()

annotators = sa.Table(
    "annotators",
    metadata,
    sa.Column("annotator", sa.Text, primary_key=True),  # a pseudonym
    sa.Column("source", sa.Text, nullable=False),  # human, simulated, …
    sa.Column("details", sa.Text),  # JSON: what is known about them, e.g. a simulated one's error rate
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("sound_check_at", UtcTime),  # when they last heard sound and picture together
)

# Who may come in, and as whom. Votes know the pseudonym alone; who that is stands here and leaves by no export.
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("annotator", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),  # annotator or lead
    sa.Column("contact", sa.Text, unique=True),  # an e-mail address, for sign-in by OpenID Connect
    sa.Column("link_hash", sa.Text, unique=True),  # SHA-256 of the personal link's secret
    sa.Column("password", sa.Text),  # scrypt: salt and hash
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)

# Passwords tried in the last minutes under a name, whether or not it has an account; a right one clears them.
password_tries = sa.Table(
    "password_tries",
    metadata,
    sa.Column("try_id", sa.Integer, primary_key=True),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("tried_at", UtcTime, nullable=False),
)
sa.Index("password_tries_by_name", password_tries.c.annotator, password_tries.c.tried_at)


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

# What is asked, and how many answers each question wants now: counted from the votes at every change of them.
questions = sa.Table(
    "questions",
    metadata,
    sa.Column("comparison_id", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),  # in the order of the workspace
    sa.Column("priority", sa.Integer, nullable=False),  # higher comes first
    sa.Column("target_votes", sa.Integer, nullable=False),
    sa.Column("stop_margin", sa.Integer),
    sa.Column("wanted", sa.Integer, nullable=False),  # 0: answered
)
sa.Index("questions_in_order", questions.c.priority.desc(), questions.c.position, questions.c.comparison_id)

# Who is looking at what. An expired lease no longer keeps others away, but its holder may still answer.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("comparison_id", sa.Text, primary_key=True),
    sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.annotator"), primary_key=True),
    sa.Column("leased_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("repeat", sa.BigInteger, nullable=False, server_default="0"),
)
sa.Index("leases_by_annotator", leases.c.annotator)

# Whose votes are left out, and why. A decision that was taken back keeps its row.
exclusions = sa.Table(
    "exclusions",
    metadata,
    sa.Column("exclusion_id", sa.Integer, primary_key=True),
    sa.Column("annotator", sa.Text, sa.ForeignKey("annotators.annotator"), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("lifted_at", UtcTime),
    sa.Column("decided_by", sa.Text),  # a lead's name; null for decisions by rule or from before they had names
)

# What a lead has decided: the right answer to a gold question, or the outcome of a disagreement.
verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("verdict_id", sa.Text, primary_key=True),
    sa.Column("comparison_id", sa.Text, nullable=False),
    sa.Column("criterion", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # gold or adjudication
    sa.Column("choice", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("lifted_at", UtcTime),
)
sa.Index("verdicts_by_question", verdicts.c.comparison_id)

# That somebody took consent back, and how much went with it; not who.
withdrawals = sa.Table(
    "withdrawals",
    metadata,
    sa.Column("withdrawal_id", sa.Integer, primary_key=True),
    sa.Column("votes_removed", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

# What all servers of one store share: the key that signs sessions and addresses of clips.
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


_newer = votes.alias("newer")


def excluded_annotators() -> sa.Select[Any]:
    """Selects the names of annotators who are left out now."""
    return sa.select(exclusions.c.annotator).where(exclusions.c.lifted_at.is_(None))


def standing() -> sa.ColumnElement[bool]:
    """Whether a row of `votes` is an answer that was neither undone nor replaced."""
    return votes.c.choice.is_not(None) & ~sa.exists().where(_newer.c.supersedes == votes.c.vote_id)


def live_votes(*columns: Any) -> sa.Select[Any]:
    """Selects the votes that count: neither undone nor replaced, and not by an excluded annotator."""
    return sa.select(*(columns or (votes,))).where(standing()).where(votes.c.annotator.not_in(excluded_annotators()))
