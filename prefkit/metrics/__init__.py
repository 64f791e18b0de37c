"""Automatic measures of one clip; one file per family, listed in `prefkit.metrics.catalogue`."""
