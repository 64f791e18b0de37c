"""Pairs -> the pairs that stay: duplicates out, best against worst, no condition or identity dominating.

Pure: rows in, rows and a count of drops out. The result does not depend on the order of the rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = dict[str, Any]


def without_duplicates(rows: Iterable[Row], sha256: Mapping[str, str | None]) -> tuple[list[Row], dict[str, int]]:
    """Drops pairs of two equal files, and all but one pair of the same two files on one criterion.

    Of pairs that agree the surest stays; where they contradict each other none does.

    Args:
        rows: with pair_id, chosen_id, rejected_id, criterion, preference, margin, num_votes.
        sha256: candidate -> SHA-256 of its clip; a clip without one is only equal to itself.
    """
    dropped = {"both clips are the same file": 0, "the same two clips again": 0, "the same two clips, contradicting": 0}
    groups: dict[tuple[Any, ...], list[tuple[bool, Row]]] = defaultdict(list)
    for row in rows:
        chosen = sha256.get(row["chosen_id"]) or row["chosen_id"]
        rejected = sha256.get(row["rejected_id"]) or row["rejected_id"]
        if chosen == rejected:
            dropped["both clips are the same file"] += 1
            continue
        groups[min(chosen, rejected), max(chosen, rejected), row["criterion"]].append((chosen < rejected, row))
    kept = []
    for group in groups.values():
        if len({side for side, _ in group}) > 1:
            dropped["the same two clips, contradicting"] += len(group)
            continue
        kept.append(min((row for _, row in group), key=surest_first))
        dropped["the same two clips again"] += len(group) - 1
    return sorted(kept, key=lambda row: row["pair_id"]), dropped


def best_against_worst(rows: Iterable[Row]) -> tuple[list[Row], dict[str, int]]:
    """Per condition and criterion the one pair of its best and its worst clip.

    Clips are ranked by the mean of P(better) − ½ over the pairs they are in; where the best and the worst
    were not compared with each other, the pair with the widest gap of those that were stays.
    """
    kept, count = [], 0
    for group in _by(rows, lambda row: (row["condition_id"], row["criterion"])):
        count += len(group)
        gains = defaultdict(list)
        for row in group:
            gain = _strength(row)
            gains[row["chosen_id"]].append(gain)
            gains[row["rejected_id"]].append(-gain)
        rank = {name: sum(values) / len(values) for name, values in gains.items()}
        gap = {row["pair_id"]: rank[row["chosen_id"]] - rank[row["rejected_id"]] for row in group}
        kept.append(min(group, key=lambda row: (-gap[row["pair_id"]], surest_first(row))))
    return sorted(kept, key=lambda row: row["pair_id"]), {"not the best against the worst clip": count - len(kept)}


def capped(rows: Iterable[Row], column: str, limit: int) -> tuple[list[Row], dict[str, int]]:
    """At most `limit` pairs per criterion and value of `column`, the surest; rows without a value all stay."""
    kept, count = [], 0
    for group in _by(rows, lambda row: (row[column] or f"pair {row['pair_id']}", row["criterion"])):
        count += len(group)
        kept += sorted(group, key=surest_first)[:limit]
    name = column.removesuffix("_id")
    return sorted(kept, key=lambda row: row["pair_id"]), {f"more than {limit} of one {name}": count - len(kept)}


def surest_first(row: Row) -> tuple[float, int, str]:
    """A sorting key: the widest margin, then the most votes, then the id."""
    return (-_strength(row), -int(row["num_votes"] or 0), row["pair_id"])


def _strength(row: Row) -> float:
    return row["margin"] if row["preference"] is None else row["preference"] - 0.5


def _by(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["pair_id"]):
        groups[key(row)].append(row)
    return list(groups.values())
