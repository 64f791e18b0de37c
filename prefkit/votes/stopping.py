"""When a comparison has votes enough."""

from collections.abc import Iterable, Mapping

# Answers that can lead; a skip is no answer.
ANSWERS = ("a", "b", "tie", "both_bad")


def is_decided(counts: Mapping[str, int], margin: int) -> bool:
    """Whether one answer leads every other by `margin` votes.

    With two answers this is Wald's sequential test: annotators who are right with probability p leave
    p^m / (p^m + (1 − p)^m) of the comparisons right at a margin of m.

    Args:
        counts: answer -> votes, of one comparison and criterion.
        margin: ≥ 1.
    """
    second, first = sorted(counts.get(answer, 0) for answer in ANSWERS)[-2:]
    return first - second >= margin


def decided_on_all(votes: Iterable[tuple[str, str, int]], margin: int) -> bool:
    """Whether one comparison is decided on every criterion that it has votes on, and has any.

    A page asks all criteria of a comparison at once, so it is the slowest that decides.

    Args:
        votes: (criterion, choice, how many).
        margin: as in `is_decided`.
    """
    counts: dict[str, dict[str, int]] = {}
    for criterion, choice, number in votes:
        counts.setdefault(criterion, {})[choice] = number
    return bool(counts) and all(is_decided(of_criterion, margin) for of_criterion in counts.values())
