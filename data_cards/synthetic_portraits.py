"""The card of the synthetic set that `prefkit demo` makes: `python -m data_cards.synthetic_portraits`.

The set itself is not stored: the demo makes it again from the seed, with the same code that fills the card.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from prefkit.loop.demo import prepare_pairs
from prefkit.loop.sizes import DEMO, LoopSize
from prefkit.workspace import Workspace

CARD = Path(__file__).with_suffix(".md")


def make_card(size: LoopSize, *, seed: int = 0, workers: int = 1) -> str:
    """Makes the set in a temporary folder and returns its README.md."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "portraits")
        prepare_pairs(workspace, replace(size, evaluate=0), seed=seed, workers=workers)
        return workspace.path("pairs/README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    CARD.write_text(make_card(DEMO, workers=2), encoding="utf-8")
    print(CARD, file=sys.stderr)
