"""Sampling in the middle of training leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for the block only."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
