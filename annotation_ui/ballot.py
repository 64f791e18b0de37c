"""What the page posts, checked and turned into votes in canonical a and b."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.sides import SCREEN_CHOICES, canonical_choice, left_side

_VOTE_ID = re.compile(r"[0-9a-f]{32}")
_PSEUDONYM = re.compile(r"[\w.-]{1,40}")
_MAX_TEXT = 2000


@dataclass(frozen=True)
class Ballot:
    """One annotator's answers on one comparison, as rows of `prefkit.tables.VOTES`."""

    annotator: str
    comparison_id: str
    rows: list[dict[str, Any]]


def check_pseudonym(name: Any) -> str:
    """Returns the name an annotator votes under.

    Raises:
        PrefkitError: it is not 1 to 40 letters, digits, dots, dashes or underscores, or it belongs to
            simulated annotators.
    """
    if not isinstance(name, str) or not _PSEUDONYM.fullmatch(name):
        raise PrefkitError(f"{str(name)[:40]!r} is no annotator name; use up to 40 letters, digits, '.', '-' and '_'")
    if name.startswith("simulated-"):
        raise PrefkitError(f"{name!r} is a name of simulated annotators; choose another one")
    return name


def parse_ballot(body: Any) -> Ballot:
    """Checks a posted ballot and turns left and right into a and b.

    Args:
        body: `{annotator, comparison_id, left, guidelines_version, seconds, watched_left, watched_right,
            skip_reason, votes: [{vote_id, criterion, choice}]}`; `choice` is one of `SCREEN_CHOICES`, `left`
            is what the page showed there, and `votes` has one entry for each criterion.

    Raises:
        PrefkitError: something is missing or not what it should be.
    """
    if not isinstance(body, Mapping):
        raise PrefkitError("the ballot is no JSON object")
    annotator = check_pseudonym(body.get("annotator"))
    comparison_id = _text(body, "comparison_id", required=True)
    left = left_side(annotator, str(comparison_id))
    if body.get("left") != left:
        raise PrefkitError("the ballot has left and right swapped against what was handed out; reload the page")
    watched = {"left": _number(body, "watched_left"), "right": _number(body, "watched_right")}
    shared = {
        "comparison_id": comparison_id,
        "annotator": annotator,
        "left": left,
        "seconds": _number(body, "seconds"),
        "watched_a": watched["left" if left == "a" else "right"],
        "watched_b": watched["right" if left == "a" else "left"],
        "skip_reason": _text(body, "skip_reason"),
        "guidelines_version": _text(body, "guidelines_version", required=True),
        "source": "human",
    }
    rows = [shared | _answer(vote, left) for vote in _votes(body)]
    return Ballot(annotator, str(comparison_id), rows)


def _votes(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    votes = body.get("votes")
    if not isinstance(votes, list) or not all(isinstance(vote, Mapping) for vote in votes):
        raise PrefkitError("the ballot has no list of votes")
    criteria = [vote.get("criterion") for vote in votes]
    if sorted(map(str, criteria)) != sorted(CRITERIA):
        raise PrefkitError(f"the ballot answers {criteria}, expected each of {', '.join(CRITERIA)} once")
    return votes


def _answer(vote: Mapping[str, Any], left: str) -> dict[str, Any]:
    vote_id, choice = vote.get("vote_id"), vote.get("choice")
    if not isinstance(vote_id, str) or not _VOTE_ID.fullmatch(vote_id):
        raise PrefkitError("a vote has no id of 32 hex digits")
    if choice not in SCREEN_CHOICES:
        raise PrefkitError(f"a vote says {str(choice)[:40]!r}, expected one of {', '.join(SCREEN_CHOICES)}")
    return {"vote_id": vote_id, "criterion": vote["criterion"], "choice": canonical_choice(choice, left)}


def _text(body: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT or (required and not value):
        raise PrefkitError(f"the ballot's {name} is no text of up to {_MAX_TEXT} characters")
    return value


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e7:
        raise PrefkitError(f"the ballot's {name} is no number of seconds")
    return float(value)
