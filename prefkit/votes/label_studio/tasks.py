"""Comparisons as Label Studio tasks, and its annotations as votes. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from prefkit.tables import content_id
from prefkit.votes.sides import canonical_choice

SOURCE = "label-studio"
_VALUES = (("left", "1"), ("right", "2"), ("tie", "3"), ("both_bad", "4"))
_FLAGS = ("broken", "offensive")


def labelling_config(criteria: Sequence[str]) -> str:
    """The page of a pair: two videos in step, a choice per criterion.

    Choices, not the tag Pairwise: that one has no tie and no key. Keys go to the first criterion.
    """
    choices = "".join(_choices(name, keys=index == 0) for index, name in enumerate(criteria))
    flags = "".join(f"<Choice value={quoteattr(flag)}/>" for flag in _FLAGS)
    return (
        '<View><View style="display:flex;gap:12px">'
        '<View style="flex:1"><Header value="Left"/><Video name="left" value="$left_clip" sync="pair"/></View>'
        '<View style="flex:1"><Header value="Right"/><Video name="right" value="$right_clip" sync="pair" muted="true"/>'
        f"</View></View>{choices}"
        '<Header value="How sure are you?"/><Rating name="confidence" toName="left" maxRating="3"/>'
        f'<Choices name="flags" toName="left" choice="multiple">{flags}</Choices>'
        '<TextArea name="comment" toName="left" maxSubmissions="1" placeholder="Comment"/></View>'
    )


def _choices(name: str, *, keys: bool) -> str:
    options = "".join(
        f"<Choice value={quoteattr(value)}" + (f' hotkey="{key}"' if keys else "") + "/>" for value, key in _VALUES
    )
    heading = quoteattr(name.replace("_", " "))
    return (
        f'<Header value={heading}/><Choices name={quoteattr(name)} toName="left" choice="single-radio" '
        f'required="true">{options}</Choices>'
    )


def task_of(
    comparison: Mapping[str, Any], clip_url: Callable[[str], str], seed: int, guidelines_version: str | None = None
) -> dict[str, Any]:
    """One task for one comparison, with its sides thrown once and recorded: who answers sees the same.

    Args:
        comparison: a row of `prefkit.tables.COMPARISONS`.
        clip_url: candidate id -> where the server finds the clip.
        seed: of the sides.
        guidelines_version: what annotators were told.
    """
    left = "ab"[int(content_id("label-studio side", seed, comparison["comparison_id"]), 16) & 1]
    right = "b" if left == "a" else "a"
    return {
        "data": {
            "left_clip": clip_url(comparison[f"candidate_{left}"]),
            "right_clip": clip_url(comparison[f"candidate_{right}"]),
            "comparison_id": comparison["comparison_id"],
            "left": left,
            "guidelines_version": guidelines_version,
        }
    }


def votes_of(tasks: Iterable[Mapping[str, Any]], server: str, criteria: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Votes of exported tasks, as rows of `prefkit.tables.VOTES`, with ids that follow from the annotation's.

    A changed annotation gets new ids, so that it can replace the older ones. Cancelled annotations are
    skips.

    Args:
        tasks: what the server exports.
        server: its address, part of the ids and of the pseudonyms.
        criteria: which answers are votes.
    """
    for task in tasks:
        for annotation in task.get("annotations", ()):
            yield from _ballot(task["data"], annotation, server, criteria)


def _ballot(
    data: Mapping[str, Any], annotation: Mapping[str, Any], server: str, criteria: Sequence[str]
) -> Iterator[dict[str, Any]]:
    said = _answers(annotation.get("result", ()))
    skipped = bool(annotation.get("was_cancelled"))
    flags = [flag for flag in said.get("flags", ()) if flag in _FLAGS]
    person = annotation.get("completed_by")
    person = person.get("id") if isinstance(person, Mapping) else person
    for criterion in criteria:
        choice = "skip" if skipped else next(iter(said.get(criterion, ())), None)
        if choice is None:
            continue
        row = {
            "comparison_id": data["comparison_id"],
            "annotator": f"ls-{content_id(server, person)[:8]}",
            "criterion": criterion,
            "choice": canonical_choice(choice, data["left"]),
            "left": data["left"],
            "confidence": next(iter(said.get("confidence", ())), None),
            "seconds": annotation.get("lead_time"),
            "flags": json.dumps(sorted(flags)) if flags else None,
            "skip_reason": "skipped in Label Studio" if skipped else None,
            "comment": "\n".join(said.get("comment", ()))[:2000] or None,
            "guidelines_version": data.get("guidelines_version"),
            "source": SOURCE,
        }
        when = datetime.fromisoformat(annotation["created_at"].replace("Z", "+00:00")).astimezone(UTC)
        yield {"vote_id": content_id(server, annotation["id"], row), **row, "created_at": when}


def _answers(result: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Control's name -> what was chosen, rated or written."""
    found: dict[str, list[Any]] = {}
    for part in result:
        value = part.get("value", {})
        given = value.get("choices", value.get("text", value.get("rating")))
        if given is not None:
            found.setdefault(part["from_name"], []).extend(given if isinstance(given, list) else [given])
    return found
