"""Votes, annotators, leases, exclusions."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

_TIME = sa.DateTime(timezone=True)
_TEXT, _WHOLE, _NUMBER = sa.Text, sa.BigInteger, sa.Double


def upgrade() -> None:
    """Creates what the first stores had."""
    op.create_table(
        "annotators",
        sa.Column("annotator", _TEXT, primary_key=True),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("details", _TEXT),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "votes",
        sa.Column("vote_id", _TEXT, primary_key=True),
        sa.Column("comparison_id", _TEXT, nullable=False),
        sa.Column("annotator", _TEXT, sa.ForeignKey("annotators.annotator"), nullable=False),
        sa.Column("criterion", _TEXT, nullable=False),
        sa.Column("repeat", _WHOLE, nullable=False),
        sa.Column("choice", _TEXT),
        sa.Column("left", _TEXT, nullable=False),
        sa.Column("confidence", _WHOLE),
        sa.Column("seconds", _NUMBER),
        sa.Column("watched_a", _NUMBER),
        sa.Column("watched_b", _NUMBER),
        sa.Column("ranges", _TEXT),
        sa.Column("flags", _TEXT),
        sa.Column("skip_reason", _TEXT),
        sa.Column("comment", _TEXT),
        sa.Column("guidelines_version", _TEXT),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("supersedes", _TEXT, sa.ForeignKey("votes.vote_id"), unique=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("choice IN ('a', 'b', 'tie', 'both_bad', 'skip')", name="choice_known"),
        sa.CheckConstraint("choice IS NOT NULL OR supersedes IS NOT NULL", name="only_an_undo_has_no_choice"),
        sa.CheckConstraint("\"left\" IN ('a', 'b')", name="left_is_a_or_b"),
    )
    op.create_index("votes_by_question", "votes", ["comparison_id", "annotator"])
    op.create_index("votes_by_annotator", "votes", ["annotator"])
    op.create_table(
        "leases",
        sa.Column("comparison_id", _TEXT, primary_key=True),
        sa.Column("annotator", _TEXT, sa.ForeignKey("annotators.annotator"), primary_key=True),
        sa.Column("leased_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
    )
    op.create_table(
        "exclusions",
        sa.Column("exclusion_id", sa.Integer, primary_key=True),
        sa.Column("annotator", _TEXT, sa.ForeignKey("annotators.annotator"), nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("lifted_at", _TIME),
    )
