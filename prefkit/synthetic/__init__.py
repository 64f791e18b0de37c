"""Synthetic talking portraits with known truth: what the demo runs on and the metrics are calibrated with."""
