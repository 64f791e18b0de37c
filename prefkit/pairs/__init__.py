"""Votes -> the preference dataset: training pairs, the votes behind them, the clips, and a card.

`build` decides and chooses the pairs (`counting`, `deciding`, `combining`, `selecting`, `splits`, each
with its part of the funnel), `layout` writes the folder, `loading` opens it, `release` embeds and uploads it.
"""

from prefkit.pairs.build import build_pairs
from prefkit.pairs.loading import load_pairs

__all__ = ["build_pairs", "load_pairs"]
