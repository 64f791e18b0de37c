"""Passwords that were tried, so that nobody can guess on and on."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Adds the tries of the last minutes."""
    op.create_table(
        "password_tries",
        sa.Column("try_id", sa.Integer, primary_key=True),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("password_tries_by_name", "password_tries", ["annotator", "tried_at"])
