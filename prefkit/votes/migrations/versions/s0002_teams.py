"""Accounts, questions with what they still want, verdicts, withdrawals; seeks and replays of a vote."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Adds what several annotators and a lead need."""
    op.execute("DROP TABLE IF EXISTS schema_version")
    for name in ("seeks", "replays"):
        op.add_column("votes", sa.Column(name, sa.BigInteger))
    op.add_column("leases", sa.Column("repeat", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("leases_by_annotator", "leases", ["annotator"])
    op.add_column("exclusions", sa.Column("decided_by", sa.Text))
    op.add_column("annotators", sa.Column("sound_check_at", _TIME))
    op.create_table(
        "accounts",
        sa.Column("annotator", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, unique=True),
        sa.Column("link_hash", sa.Text, unique=True),
        sa.Column("password", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
    )
    op.create_table(
        "questions",
        sa.Column("comparison_id", sa.Text, primary_key=True),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("target_votes", sa.Integer, nullable=False),
        sa.Column("stop_margin", sa.Integer),
        sa.Column("wanted", sa.Integer, nullable=False),
    )
    op.create_index("questions_in_order", "questions", [sa.text("priority DESC"), "position", "comparison_id"])
    op.create_table(
        "verdicts",
        sa.Column("verdict_id", sa.Text, primary_key=True),
        sa.Column("comparison_id", sa.Text, nullable=False),
        sa.Column("criterion", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("lifted_at", _TIME),
    )
    op.create_index("verdicts_by_question", "verdicts", ["comparison_id"])
    op.create_table(
        "withdrawals",
        sa.Column("withdrawal_id", sa.Integer, primary_key=True),
        sa.Column("votes_removed", sa.Integer, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "secrets", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
