"""Votes -> one row per comparison and criterion."""

from typing import Literal

import pandas as pd

from prefkit.aggregation.coding import code_votes
from prefkit.aggregation.majority import QUESTION, count_votes
from prefkit.aggregation.standing import standing_rows
from prefkit.errors import PrefkitError, nearest_names

METHODS = ("majority", "bradley-terry")
Method = Literal["majority", "bradley-terry"]


def aggregate_votes(
    votes: pd.DataFrame,
    *,
    method: Method = "majority",
    comparisons: pd.DataFrame | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    prior: float = 1.0,
    allow_mixed_sources: bool = False,
) -> pd.DataFrame:
    """Aggregates the votes that stand (`standing_votes`) per comparison and criterion.

    Counts, agreement and verdict are the same for both methods; `probability`, `tie_probability`,
    `margin`, `low` and `high` are the method's:

    - majority: shares of the votes on that comparison alone; no interval.
    - bradley-terry: what a typical annotator without a side bias would say, by a Bradley–Terry model with
      ties (Davidson 1970) fitted to all votes of a criterion: every vote on a clip says something about all
      comparisons it is in, and annotators who vote at random weigh little (`prefkit.aggregation.model`).

    Args:
        votes: rows of `prefkit.tables.VOTES`, in any order.
        method: "majority" or "bradley-terry".
        comparisons: rows of `prefkit.tables.COMPARISONS`; bradley-terry needs them to know the clips, and
            looks at their conditions and clips alone: choose votes by purpose before.
        resamples: bradley-terry: bootstrap draws of annotators for the intervals; 0 for none.
        confidence: bradley-terry: of the two-sided intervals, in (0, 1).
        seed: bradley-terry: of the draws.
        prior: bradley-terry: precision of the normal prior of the clips' strengths, > 0: the larger, the closer
            to even.
        allow_mixed_sources: bradley-terry: fit simulated, model and human votes as one. (The majority counts
            each question by itself and names its sources.)

    Returns:
        One row per comparison and criterion, sorted by both:

        - num_a, num_b, num_tie, num_both_bad, num_skip
        - num_votes: the answers, so all but skips
        - probability: P(a better), ties counted half; by majority (a + tie / 2) / (a + b + tie). Null where
          nobody compared
        - tie_probability: P(tie); by majority tie / (a + b + tie)
        - margin: |2 · probability − 1|, in [0, 1]: how far from even, either way
        - low, high: confidence interval of probability; null where it was not computed, or where only one
          annotator compared clips of the condition
        - agreement: max(a, b) / (a + b), the share of decided votes on the majority's side
        - verdict: both_bad where at least half of the answers say so; else tie where a and b are level or
          ties outnumber either; else a or b; null where everybody skipped
        - source: where the votes come from, joined by "+" if from several

    Raises:
        PrefkitError: a choice that is none of `CHOICES`, one vote id with two different answers, an unknown
            method; for bradley-terry also votes on unknown comparisons, or mixed sources.
    """
    if method not in METHODS:
        raise PrefkitError(f"there is no method {method!r}{nearest_names(method, METHODS)}")
    coded = code_votes(votes)
    rows, _ = standing_rows(votes, coded)
    standing = coded.take(rows)
    questions = count_votes(standing)
    if method == "majority":
        return questions
    if comparisons is None:
        raise PrefkitError("the method bradley-terry needs to know the clips of each comparison; give the comparisons")
    from prefkit.aggregation.model import fit_standing  # SciPy is not on a machine that only annotates

    fitted = fit_standing(
        standing, comparisons, resamples=resamples, confidence=confidence, seed=seed, prior=prior,
        allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip
    return _with_probabilities(questions, fitted.questions)


def _with_probabilities(questions: pd.DataFrame, fitted: pd.DataFrame) -> pd.DataFrame:
    """The method's probabilities in the place of the majority's; both sorted alike."""
    wanted = pd.MultiIndex.from_frame(questions[QUESTION])
    found = fitted.set_index(QUESTION).reindex(wanted)
    for name in ("probability", "tie_probability", "low", "high"):
        questions[name] = found[name].to_numpy(dtype=float)
    questions["margin"] = (2 * questions["probability"] - 1).abs()
    return questions
