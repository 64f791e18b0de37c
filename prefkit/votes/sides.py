"""Which clip is shown on the left, and what an answer on the screen means.

Rows hold `a` and `b`, which never move; the screen has a left and a right. Each annotator sees about
half of the comparisons swapped, always the same ones, so that a habit of picking one side can be told
from a preference. A repeat is thrown anew: self-consistency is no memory of a side.
"""

import hashlib

SCREEN_CHOICES = ("left", "right", "tie", "both_bad", "skip")


def left_side(annotator: str, comparison_id: str, repeat: int = 0) -> str:
    """Returns "a" or "b": the clip this annotator sees on the left. Depends on nothing else."""
    again = f"\n{repeat}" if repeat else ""
    digest = hashlib.sha256(f"{annotator}\n{comparison_id}{again}".encode()).digest()
    return "ab"[digest[0] & 1]


def canonical_choice(screen_choice: str, left: str) -> str:
    """Turns an answer given on the screen into a choice among `prefkit.tables.CHOICES`.

    Args:
        screen_choice: one of `SCREEN_CHOICES`.
        left: "a" or "b", what was on the left.
    """
    if screen_choice == "left":
        return left
    if screen_choice == "right":
        return "b" if left == "a" else "a"
    return screen_choice
