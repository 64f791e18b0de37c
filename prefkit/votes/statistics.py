"""What the votes look like, per annotator and criterion."""

import pandas as pd

from prefkit.tables import CHOICES

COLUMNS = ("annotator", "source", "criterion", "votes", *CHOICES, "left_share", "median_seconds")


def vote_statistics(votes: pd.DataFrame) -> pd.DataFrame:
    """Counts live votes per annotator and criterion.

    Args:
        votes: rows of `prefkit.tables.VOTES`, as `VoteStore.votes` gives them.

    Returns:
        One row per annotator, source and criterion: `votes`, a count for each choice, `left_share` (how
        often the left clip won among the decided votes, about 0.5 without a side bias; null without
        decided votes) and `median_seconds` (null where nobody measured).
    """
    rows = []
    for (annotator, source, criterion), group in votes.groupby(["annotator", "source", "criterion"], sort=True):
        decided = group[group["choice"].isin(["a", "b"])]
        counts = group["choice"].value_counts()
        rows.append(
            {
                "annotator": annotator,
                "source": source,
                "criterion": criterion,
                "votes": len(group),
                **{choice: int(counts.get(choice, 0)) for choice in CHOICES},
                "left_share": float((decided["choice"] == decided["left"]).mean()) if len(decided) else None,
                "median_seconds": group["seconds"].astype("float64").median(),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
