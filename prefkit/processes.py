"""Several processes that share work, as `accelerate launch` starts them; one by itself otherwise."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Processes:
    """This process among those that do the same work.

    Attributes:
        rank: this one's number, from 0.
        count: how many there are.
        device: where this one computes ("cpu", "cuda:1", …).
    """

    rank: int
    count: int
    device: str

    @classmethod
    def current(cls) -> "Processes":
        """Those that the launcher started (it sets WORLD_SIZE), or this one alone."""
        import torch

        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, "cuda" if torch.cuda.is_available() else "cpu")
        from accelerate import PartialState

        state = PartialState()
        return cls(state.process_index, state.num_processes, str(state.device))

    @property
    def is_main(self) -> bool:
        """Whether this one writes and prints what is there once."""
        return self.rank == 0

    def gather(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes, in the order of their ranks; every process must call it."""
        if self.count == 1:
            return rows
        from accelerate.utils import gather_object

        return gather_object(rows)
