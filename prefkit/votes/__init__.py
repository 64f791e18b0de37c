"""The vote store, the queue that hands comparisons out, and simulated annotators."""
