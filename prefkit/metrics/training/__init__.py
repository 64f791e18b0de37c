"""`python -m prefkit.metrics.training` trains the two small networks for synthetic portraits."""
