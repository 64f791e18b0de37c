"""Active choice: the questions whose answers are expected to tell most, given votes and scores so far."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from prefkit.aggregation.coding import code_votes
from prefkit.aggregation.counts import COMPARED, Counts, count_ballots
from prefkit.aggregation.information import Pair, Posterior, most_informative
from prefkit.aggregation.standing import standing_votes
from prefkit.choosing import score_table, with_direction
from prefkit.votes.questions import answers_wanted


@dataclass(frozen=True)
class ActiveChoice:
    """What is believed about the clips, and what is asked already.

    Attributes:
        posterior: what votes and scores say.
        clips: condition -> its clips, sorted.
        pending: condition -> (pair, answers that are still to come).
        votes: how many answers each new question will get.
    """

    posterior: Posterior
    clips: Mapping[str, list[str]]
    pending: Mapping[str, list[tuple[Pair, int]]]
    votes: int

    @classmethod
    def of(
        cls,
        candidates: pd.DataFrame,
        scores: pd.DataFrame,
        metric: str | None,
        comparisons: pd.DataFrame,
        votes: pd.DataFrame | None,
        criterion: str,
        target_votes: int,
    ) -> "ActiveChoice":
        """Fits the votes on training comparisons of the criterion; see `prefkit.comparisons.make_comparisons`.

        Raises:
            PrefkitError: `metric` is named and no clip has a score of it.
        """
        training = comparisons[comparisons["purpose"] == "train"]
        counts = _counts(training, votes, criterion)
        posterior = Posterior.of(counts, scores=_warm_start(candidates, scores, metric))
        groups = candidates.groupby("condition_id")["candidate_id"]
        clips = {str(condition): sorted(names) for condition, names in groups}
        return cls(posterior, clips, _pending(training, counts, clips), target_votes)

    def choose(self, condition_id: str, pairs: list[Pair], count: int) -> list[Pair]:
        """The best `count` of `pairs`, best first; of questions worth the same the first is taken."""
        belief = self.posterior.belief(condition_id, self.clips[condition_id])
        return most_informative(belief, pairs, count, votes=self.votes, pending=self.pending.get(condition_id, ()))


def _warm_start(candidates: pd.DataFrame, scores: pd.DataFrame, metric: str | None) -> dict[str, float]:
    """The mean over the metrics that say which way is better; nothing where there are no scores."""
    if metric is None and scores["value"].isna().all():
        return {}
    table = score_table(candidates, scores, metric, "active")
    means = (table if metric is not None else with_direction(table)).mean(axis=1).dropna()
    return {str(name): float(value) for name, value in means.items()}


def _counts(training: pd.DataFrame, votes: pd.DataFrame | None, criterion: str) -> Counts | None:
    if votes is None or votes.empty:
        return None
    standing, _ = standing_votes(votes)
    ours = standing[standing["comparison_id"].isin(training["comparison_id"])]
    return count_ballots(code_votes(ours), training).get(criterion)


def _pending(
    training: pd.DataFrame, counts: Counts | None, clips: Mapping[str, list[str]]
) -> dict[str, list[tuple[Pair, int]]]:
    """The questions of usable clips that want more answers, as the queue counts them, on this criterion alone."""
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    if counts is not None:
        for question, outcome, count in zip(counts.question, counts.outcome, counts.count, strict=True):
            tallies[counts.questions.comparison_ids[question]][COMPARED[outcome]] += int(count)
    usable = {name for names in clips.values() for name in names}
    pending: dict[str, list[tuple[Pair, int]]] = defaultdict(list)
    for row in training.to_dict("records"):
        tally = tallies[row["comparison_id"]]
        margin = None if pd.isna(row["stop_margin"]) else int(row["stop_margin"])
        target = 1 if pd.isna(row["target_votes"]) else int(row["target_votes"])
        to_come = answers_wanted(target, margin, tally.total(), [tally])
        if to_come and {row["candidate_a"], row["candidate_b"]} <= usable:
            pending[row["condition_id"]].append(((row["candidate_a"], row["candidate_b"]), to_come))
    return pending
