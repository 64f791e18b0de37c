"""Trains the two small networks for synthetic portraits that ship with prefkit: `python -m prefkit.metrics.training`."""
