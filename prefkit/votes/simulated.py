"""Simulated annotators: they vote through the same store and queue as people, and every row says so."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from prefkit.errors import PrefkitError
from prefkit.progress import track
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, CRITERIA, content_id
from prefkit.votes.queue import Assignment, Queue
from prefkit.votes.sides import canonical_choice
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

SOURCE = "simulated"
_BATCH = 200  # comparisons a transaction: each one costs a sync to disk

Judge = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, float | None]]


@dataclass(frozen=True)
class SimulationSummary:
    """What `simulate_votes` did: comparisons of that purpose, votes added by this call, how many were skips."""

    comparisons: int
    votes: int
    skipped: int


@dataclass(frozen=True)
class SimulatedAnnotator:
    """One simulated annotator.

    Attributes:
        name: what the rows call them.
        error_rate: probability of picking the clip the judge finds worse.
        left_bias: probability of picking the left clip without looking.
        tie_margin: a difference in quality up to this is a tie, per criterion.
        seed: what their errors follow from.
    """

    name: str
    error_rate: float
    left_bias: float
    tie_margin: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def choose(self, comparison_id: str, criterion: str, left_quality: float, right_quality: float) -> str:
        """Returns left, right or tie, the same for the same arguments."""
        bias, slip, side = uniforms(self.seed, self.name, comparison_id, criterion)
        if bias < self.left_bias:
            return "left"
        if abs(left_quality - right_quality) > self.tie_margin.get(criterion, 0.0):
            right_is_better = right_quality > left_quality
            return "right" if right_is_better != (slip < self.error_rate) else "left"
        if slip < self.error_rate:
            return "left" if side < 0.5 else "right"
        return "tie"


def simulate_votes(
    workspace: Workspace,
    judge: Judge,
    *,
    annotators: int = 3,
    error_rate: float = 0.1,
    left_bias: float = 0.0,
    tie_margin: float | Mapping[str, float] = 0.0,
    seed: int = 0,
    purpose: str = "train",
) -> SimulationSummary:
    """Lets simulated annotators answer the comparisons of one purpose that still need votes.

    Which of them answers a comparison, and what, follows from `seed` and the ids alone, so a second
    call adds nothing and an interrupted one goes on where it stopped.

    Args:
        workspace: with conditions, candidates and comparisons.
        judge: (candidate row, condition row) -> quality per criterion, higher is better; None for what it
            cannot judge, which becomes a skip with a reason.
        annotators: how many there are. A comparison gets `target_votes` of them, at most all.
        error_rate: mean probability of picking the worse clip; each annotator has their own, from half to
            one and a half times the mean.
        left_bias: mean probability of picking the left clip regardless, spread in the same way.
        tie_margin: a difference in quality up to this is a tie; one number, or one per criterion.
        seed: of the annotators and their errors.
        purpose: train, gold or evaluate.

    Raises:
        PrefkitError: there are no such comparisons, or a rate is out of range.
    """
    _check(annotators, error_rate, left_bias)
    comparisons = workspace.read(COMPARISONS)
    comparisons = comparisons[comparisons["purpose"] == purpose]
    if comparisons.empty:
        raise PrefkitError(f"{workspace.root} has no comparisons for {purpose}; make some with 'prefkit compare'")
    crowd = make_annotators(annotators, error_rate, left_bias, tie_margin, seed)
    rows = _by_id(comparisons, "comparison_id")
    quality = _quality_lookup(workspace, judge)
    store = VoteStore.in_workspace(workspace)
    queue = Queue(store, comparisons, source=SOURCE)
    for annotator in crowd:
        known = json.dumps({"error_rate": annotator.error_rate, "left_bias": annotator.left_bias})
        store.register(annotator.name, SOURCE, known)

    added = skipped = 0
    batches = list(_batches(crowd, queue.targets))
    for annotator, batch in track(batches, "simulated votes"):
        assigned = queue.lease(annotator.name, len(batch), among=batch)
        ballots = [vote for task in assigned for vote in _ballot(annotator, task, rows[task.comparison_id], quality)]
        added += queue.answer(annotator.name, ballots)
        skipped += sum(vote["choice"] == "skip" for vote in ballots)
    store.close()
    return SimulationSummary(comparisons=len(comparisons), votes=added, skipped=skipped)


def make_annotators(
    count: int, error_rate: float, left_bias: float, tie_margin: float | Mapping[str, float], seed: int
) -> list[SimulatedAnnotator]:
    """Makes a crowd whose rates spread from half to one and a half times the means, at most one half."""
    margins = tie_margin if isinstance(tie_margin, Mapping) else dict.fromkeys(CRITERIA, float(tie_margin))
    crowd = []
    for number in range(count):
        name = f"simulated-{seed}-{number}"
        error_factor, bias_factor, _ = uniforms(seed, name, "rates", "")
        crowd.append(
            SimulatedAnnotator(
                name=name,
                error_rate=min(0.5, error_rate * (0.5 + error_factor)),
                left_bias=min(0.5, left_bias * (0.5 + bias_factor)),
                tie_margin=margins,
                seed=seed,
            )
        )
    return crowd


def uniforms(*parts: Any) -> tuple[float, float, float]:
    """Three numbers in [0, 1) that depend on nothing but `parts`."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    first, second, third = (int.from_bytes(digest[start : start + 6]) / 2**48 for start in (0, 6, 12))
    return first, second, third


def _check(annotators: int, error_rate: float, left_bias: float) -> None:
    if annotators < 1:
        raise PrefkitError(f"found {annotators} simulated annotators, expected at least 1")
    for name, rate in (("error rate", error_rate), ("left bias", left_bias)):
        if not 0.0 <= rate <= 0.5:
            raise PrefkitError(f"the {name} is {rate}, expected a probability from 0 to 0.5")


def _batches(
    crowd: list[SimulatedAnnotator], targets: Mapping[str, int]
) -> Iterator[tuple[SimulatedAnnotator, list[str]]]:
    """Yields who answers what. Each comparison takes the first of the crowd in an order of its own."""
    work: dict[str, list[str]] = {annotator.name: [] for annotator in crowd}
    for comparison, target in targets.items():
        ranked = sorted(work, key=lambda name: uniforms("who", name, comparison))
        for name in ranked[:target]:
            work[name].append(comparison)
    for annotator in crowd:
        mine = work[annotator.name]
        for start in range(0, len(mine), _BATCH):
            yield annotator, mine[start : start + _BATCH]


def _by_id(frame: pd.DataFrame, key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in frame.to_dict("records")}  # type: ignore[misc]


def _quality_lookup(workspace: Workspace, judge: Judge) -> Callable[[str], Mapping[str, float | None]]:
    """Asks the judge once per candidate, and only about candidates that come up."""
    candidates = _by_id(workspace.read(CANDIDATES), "candidate_id")
    conditions = _by_id(workspace.read(CONDITIONS), "condition_id")
    known: dict[str, Mapping[str, float | None]] = {}

    def quality(candidate_id: str) -> Mapping[str, float | None]:
        if candidate_id not in known:
            candidate = candidates[candidate_id]
            known[candidate_id] = judge(candidate, conditions[candidate["condition_id"]])
        return known[candidate_id]

    return quality


def _ballot(
    annotator: SimulatedAnnotator,
    task: Assignment,
    comparison: Mapping[str, Any],
    quality: Callable[[str], Mapping[str, float | None]],
) -> Iterator[dict[str, Any]]:
    sides = ("candidate_a", "candidate_b") if task.left == "a" else ("candidate_b", "candidate_a")
    left, right = (comparison[side] for side in sides)
    for criterion in CRITERIA:
        vote = {
            "vote_id": content_id(SOURCE, annotator.seed, annotator.name, task.comparison_id, criterion),
            "comparison_id": task.comparison_id,
            "annotator": annotator.name,
            "criterion": criterion,
            "left": task.left,
            "source": SOURCE,
        }
        left_quality, right_quality = quality(left).get(criterion), quality(right).get(criterion)
        if left_quality is None or right_quality is None:
            unjudged = left if left_quality is None else right
            reason = f"the judge could not judge {criterion} of candidate {unjudged}"
            yield vote | {"choice": "skip", "skip_reason": reason}
            continue
        chosen = annotator.choose(task.comparison_id, criterion, left_quality, right_quality)
        yield vote | {"choice": canonical_choice(chosen, task.left)}
