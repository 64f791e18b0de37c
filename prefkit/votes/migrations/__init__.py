"""Brings a vote store of an older prefkit to the present schema, step by step (Alembic).

A new step is a file in `versions/` and a change of `LATEST`; a test compares the result with
`prefkit.votes.schema`.
"""

from pathlib import Path

import sqlalchemy as sa

from prefkit.errors import PrefkitError

LATEST = "0003"
# Stores from before Alembic had this table instead, with version 1.
_FIRST, _OLD_TABLE = "0001", "schema_version"


def migrate(connection: sa.Connection, where: str) -> None:
    """Creates or upgrades the tables inside the caller's transaction; does nothing where they are up to date.

    Raises:
        PrefkitError: the store was made by a newer prefkit.
    """
    found = _revision(connection)
    if found == LATEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    try:
        if found is None and sa.inspect(connection).has_table(_OLD_TABLE):
            command.stamp(config, _FIRST)
        command.upgrade(config, "head")
    except CommandError as error:
        raise PrefkitError(
            f"the vote store {where} has schema version {found}, this prefkit reads up to {LATEST}; upgrade it"
        ) from error


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
