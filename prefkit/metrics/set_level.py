"""Distances between two sets of clips, for a whole model: they cannot rank two clips.

A Fréchet distance compares the normal distributions of two sets of features (Heusel et al. 2017); what it
means depends on the network that made them, so every result names its extractor. The arithmetic is torchmetrics'.
Small sets are biased upward: compare only sets of equal size.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FEWEST = 2  # features on either side


@dataclass(frozen=True)
class SetScore:
    """A distance between two sets of clips; lower is better.

    Attributes:
        metric: fid, fvd or efid.
        value: ≥ 0; None where there is none.
        extractor: what made the features, with the start of its weights' SHA-256.
        num_reference: features of the reference set.
        num_clips: features of the set under test.
        error: why there is no value.
    """

    metric: str
    value: float | None
    extractor: str
    num_reference: int
    num_clips: int
    error: str | None = None

    def row(self) -> dict[str, Any]:
        """As a dict, for a report."""
        return asdict(self)


def frechet_distance(reference: np.ndarray, features: np.ndarray) -> float:
    """Fréchet distance of two sets of features, float [N, D] and [M, D], at least two each.

    Raises:
        ValueError: other shapes, or fewer features.
    """
    if reference.ndim != 2 or features.ndim != 2 or reference.shape[1] != features.shape[1]:
        raise ValueError(f"features are {reference.shape} and {features.shape}; expected [N, D] and [M, D]")
    if min(len(reference), len(features)) < FEWEST:
        raise ValueError(f"a Fréchet distance needs at least {FEWEST} features on either side")
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        """The features are made already."""

        num_features = reference.shape[1]

        def forward(self, made: torch.Tensor) -> torch.Tensor:
            return made

    distance = FrechetInceptionDistance(feature=Given())
    distance.set_dtype(torch.float64)
    distance.update(torch.from_numpy(np.asarray(reference, np.float64)), real=True)
    distance.update(torch.from_numpy(np.asarray(features, np.float64)), real=False)
    # a distance of two equal sets may be a rounding error below zero
    return max(0.0, float(distance.compute()))


def set_score(
    metric: str, reference: Mapping[str, np.ndarray], clips: Mapping[str, np.ndarray], extractor: str
) -> SetScore:
    """The distance of two sets of clips, each clip's features [n, D] by its id."""
    wanted, found = (np.concatenate(list(side.values())) if side else np.zeros((0, 0)) for side in (reference, clips))
    if min(len(wanted), len(found)) < FEWEST:
        reason = f"fewer than {FEWEST} features on one side"
        return SetScore(metric, None, extractor, len(wanted), len(found), reason)
    return SetScore(metric, frechet_distance(wanted, found), extractor, len(wanted), len(found))
