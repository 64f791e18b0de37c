"""What a build of the preference dataset can be told."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prefkit.aggregation.aggregate import METHODS
from prefkit.errors import PrefkitError, nearest_names

COMBINATIONS = ("each", "weighted", "all")
SELECTIONS = ("all", "best-worst")
WEIGHTS = ("uniform", "margin")


@dataclass(frozen=True)
class PairOptions:
    """The options of `prefkit.pairs.build_pairs`.

    Attributes:
        criteria: which become pairs; None for every one that was voted on.
        method: how votes are aggregated: "majority", or "bradley-terry" over all votes of a criterion.
        combine: of several criteria: "each" gives a row per criterion, "weighted" one row by the weighted
            mean of P, "all" one row where every criterion prefers the same clip.
        criterion_weights: with combine "weighted": criterion -> weight > 0; 1 where none is given.
        min_votes: answers (skips left out) a question needs, ≥ 1.
        min_agreement: share of the decided votes that the majority needs, in [0.5, 1].
        min_probability: P(chosen better) a pair needs, in [0.5, 1].
        min_margin: 2 · P(chosen better) − 1 a pair needs, in [0, 1].
        select: "all" pairs of a condition, or "best-worst": its best clip against its worst.
        max_per_condition: pairs a condition may have per criterion; the surest stay. None: no limit.
        max_per_identity: likewise for an identity.
        weights: "uniform", or "margin": a pair weighs 2 · P(chosen better) − 1, so close calls say less.
        test_fraction: share of the identities held out, in [0, 1), where the conditions name no splits.
        allow_mixed_sources: let simulated, model and human votes make one dataset.
    """

    criteria: Sequence[str] | None = None
    method: Literal["majority", "bradley-terry"] = "majority"
    combine: Literal["each", "weighted", "all"] = "each"
    criterion_weights: dict[str, float] | None = None
    min_votes: int = 1
    min_agreement: float = 0.5
    min_probability: float = 0.5
    min_margin: float = 0.0
    select: Literal["all", "best-worst"] = "all"
    max_per_condition: int | None = None
    max_per_identity: int | None = None
    weights: Literal["uniform", "margin"] = "uniform"
    test_fraction: float = 0.2
    allow_mixed_sources: bool = False

    def check(self) -> None:
        """Raises PrefkitError where an option is unknown, out of range, or would have no effect."""
        for name, value, known in (
            ("method", self.method, METHODS),
            ("way to combine criteria", self.combine, COMBINATIONS),
            ("selection", self.select, SELECTIONS),
            ("kind of weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise PrefkitError(f"there is no {name} {value!r}{nearest_names(value, known)}")
        for name, count in (
            ("min votes", self.min_votes),
            ("max per condition", self.max_per_condition),
            ("max per identity", self.max_per_identity),
        ):
            if count is not None and count < 1:
                raise PrefkitError(f"{name} must be at least 1, got {count}")
        for name, share in (("min agreement", self.min_agreement), ("min probability", self.min_probability)):
            if not 0.5 <= share <= 1:
                raise PrefkitError(f"{name} is a majority's share, from 0.5 to 1; got {share}")
        if not 0 <= self.min_margin <= 1:
            raise PrefkitError(f"min margin is 2 · P(chosen better) − 1, from 0 to 1; got {self.min_margin}")
        if not 0 <= self.test_fraction < 1:
            raise PrefkitError(f"test fraction must be from 0 to below 1, got {self.test_fraction}")
        if self.criterion_weights and self.combine != "weighted":
            raise PrefkitError("criterion weights only matter with combine='weighted'; choose it, or leave them out")
        if any(not 0 < weight < float("inf") for weight in (self.criterion_weights or {}).values()):
            raise PrefkitError("criterion weights must be above 0 and finite; leave a criterion out by not naming it")

    def record(self) -> dict[str, Any]:
        """As plain data, for the marker and the card."""
        return asdict(self)
