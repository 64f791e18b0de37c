"""Do the annotators agree beyond chance?"""

import numpy as np
import pandas as pd


def krippendorff_alpha(questions: pd.DataFrame) -> float | None:
    """Agreement beyond chance on one criterion's a, b, tie, both bad: 1 is perfect, 0 is chance.

    Nominal alpha (Krippendorff, Content Analysis, 2004) over questions with at least two answers.

    Args:
        questions: rows of one criterion from `aggregate_votes`.

    Returns:
        Alpha, or None where no question has two answers or all answers are the same.
    """
    import krippendorff

    counts = questions[["num_a", "num_b", "num_tie", "num_both_bad"]].to_numpy()
    counts = counts[counts.sum(axis=1) >= 2]
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
