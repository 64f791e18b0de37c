"""What the page posts, checked and turned into votes in canonical a and b."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.sides import SCREEN_CHOICES, canonical_choice, left_side

FLAGS = ("broken", "offensive")
CONFIDENCES = (1, 2, 3)
_VOTE_ID = re.compile(r"[0-9a-f]{32}")
_MAX_TEXT = 2000
_MAX_RANGES = 20


@dataclass(frozen=True)
class Ballot:
    """One annotator's answers on one comparison, as rows of `prefkit.tables.VOTES`."""

    annotator: str
    comparison_id: str
    rows: list[dict[str, Any]]


def parse_ballot(body: Any, annotator: str, criteria: Sequence[str] = CRITERIA) -> Ballot:
    """Checks a posted ballot and turns left and right into a and b.

    Args:
        body: `{comparison_id, repeat, left, guidelines_version, seconds, watched_left, watched_right, seeks,
            replays, confidence, comment, flags, ranges, skip_reason, votes: [{vote_id, criterion, choice}]}`;
            `choice` is one of `SCREEN_CHOICES`, `left` is what the page showed there, `ranges` are
            `{clip: left or right, start, end}` in seconds, and `votes` has one entry for each criterion.
        annotator: who is signed in.
        criteria: what is asked.

    Raises:
        PrefkitError: something is missing or not what it should be.
    """
    if not isinstance(body, Mapping):
        raise PrefkitError("the ballot is no JSON object")
    comparison_id = str(_text(body, "comparison_id", required=True))
    repeat = _count(body, "repeat") or 0
    left = left_side(annotator, comparison_id, repeat)
    if body.get("left") != left:
        raise PrefkitError("the ballot has left and right swapped against what was handed out; reload the page")
    watched = {"left": _number(body, "watched_left"), "right": _number(body, "watched_right")}
    shared = {
        "comparison_id": comparison_id,
        "annotator": annotator,
        "repeat": repeat,
        "left": left,
        "confidence": _one_of(body, "confidence", CONFIDENCES),
        "seconds": _number(body, "seconds"),
        "watched_a": watched["left" if left == "a" else "right"],
        "watched_b": watched["right" if left == "a" else "left"],
        "ranges": _ranges(body, left),
        "flags": _flags(body),
        "skip_reason": _text(body, "skip_reason"),
        "comment": _text(body, "comment"),
        "guidelines_version": _text(body, "guidelines_version", required=True),
        "source": "human",
        "seeks": _count(body, "seeks"),
        "replays": _count(body, "replays"),
    }
    rows = [shared | _answer(vote, left) for vote in _votes(body, criteria)]
    return Ballot(annotator, comparison_id, rows)


def _votes(body: Mapping[str, Any], criteria: Sequence[str]) -> list[Mapping[str, Any]]:
    votes = body.get("votes")
    if not isinstance(votes, list) or not all(isinstance(vote, Mapping) for vote in votes):
        raise PrefkitError("the ballot has no list of votes")
    found = [vote.get("criterion") for vote in votes]
    if sorted(map(str, found)) != sorted(criteria):
        raise PrefkitError(f"the ballot does not answer each of {', '.join(criteria)} once")
    return votes


def _answer(vote: Mapping[str, Any], left: str) -> dict[str, Any]:
    vote_id, choice = vote.get("vote_id"), vote.get("choice")
    if not isinstance(vote_id, str) or not _VOTE_ID.fullmatch(vote_id):
        raise PrefkitError("a vote has no id of 32 hex digits")
    if choice not in SCREEN_CHOICES:
        raise PrefkitError(f"a vote says {str(choice)[:40]!r}, expected one of {', '.join(SCREEN_CHOICES)}")
    return {"vote_id": vote_id, "criterion": vote["criterion"], "choice": canonical_choice(choice, left)}


def _ranges(body: Mapping[str, Any], left: str) -> str | None:
    ranges = body.get("ranges")
    if not ranges:
        return None
    if not isinstance(ranges, list) or len(ranges) > _MAX_RANGES:
        raise PrefkitError(f"the ballot's ranges are no list of up to {_MAX_RANGES}")
    found = []
    for one in ranges:
        if not isinstance(one, Mapping) or one.get("clip") not in ("left", "right"):
            raise PrefkitError("a marked range is on neither clip")
        start, end = _number(one, "start"), _number(one, "end")
        if start is None or end is None or start > end:
            raise PrefkitError("a marked range ends before it starts")
        found.append({"clip": canonical_choice(one["clip"], left), "start": start, "end": end})
    return json.dumps(found)


def _flags(body: Mapping[str, Any]) -> str | None:
    flags = body.get("flags")
    if not flags:
        return None
    if not isinstance(flags, list) or not all(flag in FLAGS for flag in flags):
        raise PrefkitError(f"the ballot's flags are no list of {' and '.join(FLAGS)}")
    return json.dumps(sorted(set(flags)))


def _one_of(body: Mapping[str, Any], name: str, known: Sequence[int]) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or value not in known):
        raise PrefkitError(f"the ballot's {name} is none of {', '.join(map(str, known))}")
    return value


def _text(body: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value or (required and not value):
        raise PrefkitError(f"the ballot's {name} is no text of up to {_MAX_TEXT} characters")
    return value or None


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1_000_000:
        raise PrefkitError(f"the ballot's {name} is no whole number")
    return value


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e7:
        raise PrefkitError(f"the ballot's {name} is no number of seconds")
    return float(value)
