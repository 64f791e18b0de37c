"""The funnel: what went in, what was dropped and why, what was left. Nothing is dropped without a count."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Step = dict[str, Any]  # step, total, dropped: {reason: count}, left


def step(name: str, total: int, dropped: Mapping[str, int]) -> Step:
    """One step; reasons nobody met are left out."""
    met = {reason: int(count) for reason, count in dropped.items() if count}
    return {"step": name, "total": int(total), "dropped": met, "left": int(total) - sum(met.values())}


def reasons(steps: Sequence[Step]) -> str:
    """All drops in words."""
    return "; ".join(f"{count} × {reason}" for one in steps for reason, count in one["dropped"].items())


def counts(values: pd.Series) -> dict[str, int]:
    """Value -> how often, sorted by value."""
    return {str(name): int(count) for name, count in sorted(values.value_counts().items())}
