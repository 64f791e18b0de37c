"""Which questions say that one clip is better, by which thresholds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from prefkit.pairs.funnel import Step, step
from prefkit.pairs.options import PairOptions


def answered(questions: pd.DataFrame, num_asked: int, flagged: Mapping[str, str]) -> tuple[pd.DataFrame, Step]:
    """The questions that people compared: not skipped by all, no clip flagged, not both bad.

    Args:
        questions: what `prefkit.aggregation.aggregate_votes` returns.
        num_asked: comparisons made for training × criteria, voted on or not.
        flagged: comparison -> flag (`prefkit.pairs.counting.flagged_comparisons`).
    """
    flags = questions["comparison_id"].map(dict(flagged))
    rules = [
        ("everybody skipped", questions["num_votes"] == 0),
        ("flagged as broken", flags == "broken"),
        ("flagged as offensive", flags == "offensive"),
        ("both clips bad", questions["verdict"] == "both_bad"),
    ]
    return _apply(questions, rules, "questions", num_asked, {"not voted on": num_asked - len(questions)})


def decided(questions: pd.DataFrame, options: PairOptions, name: str) -> tuple[pd.DataFrame, Step]:
    """The questions that pass the thresholds.

    Args:
        questions: columns num_votes, verdict (a, b or tie), probability (of a), agreement.
        options: min_votes, min_agreement, min_probability, min_margin.
        name: of the step in the funnel.
    """
    probability = questions["probability"].astype("float64")
    preference = np.maximum(probability, 1 - probability)
    by_votes = questions["verdict"].map({"a": 1, "b": -1})
    rules = [
        (f"fewer than {options.min_votes} votes", questions["num_votes"] < options.min_votes),
        ("tie", questions["verdict"] == "tie"),
        # a model of all votes may see it otherwise than the votes on this one comparison
        ("votes and model disagree", np.sign(probability - 0.5) != by_votes),
        (f"agreement below {options.min_agreement:g}", questions["agreement"] < options.min_agreement),
        (f"probability below {options.min_probability:g}", preference < options.min_probability),
        (f"margin below {options.min_margin:g}", 2 * preference - 1 < options.min_margin),
    ]
    return _apply(questions, rules, name, len(questions), {})


def _apply(
    questions: pd.DataFrame, rules: list[tuple[str, pd.Series]], name: str, total: int, dropped: dict[str, int]
) -> tuple[pd.DataFrame, Step]:
    """Each question is dropped for the first rule it meets."""
    left = pd.Series(True, index=questions.index)
    for reason, mask in rules:
        dropped[reason] = int((left & mask).sum())
        left &= ~mask
    return questions[left].reset_index(drop=True), step(name, total, dropped)
