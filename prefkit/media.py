"""Clips and sound, in and out, with PyAV."""
