"""Votes -> probabilities, strengths of clips, reliabilities of annotators.

Pure: tables in, tables out; the same votes in any order give the same numbers, bit for bit. Both methods
count first, so a million votes take seconds.
"""

from prefkit.aggregation.aggregate import aggregate_votes
from prefkit.aggregation.agreement import krippendorff_alpha
from prefkit.aggregation.standing import source_kind, standing_votes

__all__ = ["aggregate_votes", "krippendorff_alpha", "source_kind", "standing_votes"]
