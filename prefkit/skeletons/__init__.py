"""Skeletons: drawn from keypoints, taken from a driving video, at any frame rate."""
