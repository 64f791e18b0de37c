"""Alembic runs this: the steps happen in the transaction of whoever opens the store."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
