"""Does the annotator hear the clips, and in time? Wireless headphones delay sound and spoil lip-sync votes."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from prefkit.errors import PrefkitError
from prefkit.votes.schema import annotators
from prefkit.votes.store import VoteStore, ensure_annotators, utc_now


def has_heard(store: VoteStore, annotator: str) -> bool:
    """Whether this annotator has passed the check."""
    with store.reading() as connection:
        query = sa.select(annotators.c.sound_check_at).where(annotators.c.annotator == annotator)
        return connection.scalar(query) is not None


def pass_sound_check(store: VoteStore, annotator: str, result: Mapping[str, Any]) -> None:
    """Records that the annotator hears sound and picture together.

    Args:
        store: the vote store.
        annotator: who.
        result: `played` and `heard`, numbers of beeps, and `together`: whether each came with its flash.

    Raises:
        PrefkitError: they did not; the sentence is for the annotator.
    """
    played, heard = result.get("played"), result.get("heard")
    if not isinstance(played, int) or not 2 <= played <= 9 or heard != played:
        raise PrefkitError("That was not the number of beeps; check that your sound is on and try again")
    if result.get("together") is not True:
        raise PrefkitError(
            "Your sound comes late, as it does with wireless headphones; please plug in a pair with a cable and try "
            "again"
        )
    with store.writing() as connection:
        ensure_annotators(connection, {annotator: "human"})
        mine = annotators.c.annotator == annotator
        connection.execute(annotators.update().where(mine).values(sound_check_at=utc_now()))
