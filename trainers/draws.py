"""What a batch is made of: pairs with their noise and timestep, for training and for the held-out grid."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from prefkit.backbones.contract import stack_conditioning
from trainers.encoding import EncodedPairs
from trainers.noise import draw_noise, draw_timestep, grid_timestep

# (pair_id, draw) -> the reference's errors on the chosen and the rejected clip
ReferenceErrors = Callable[[str, int], tuple[float, float]]


class TrainingDraws(Dataset[dict[str, Any]]):
    """Every pair `draws` times, each time with its own noise and timestep, pass by pass in a shuffled order.

    The order is part of the dataset (read it in sequence), so that it too depends on the seed alone. An
    entry is a chosen clip with one rejected clip, or up to `losers_per_winner` of them, which then share
    noise and timestep and cost one forward of the chosen clip together.

    Args:
        pairs: what is trained on.
        seed: of the order, noise and timesteps.
        draws: of every pair.
        low: timesteps are above this.
        high: timesteps are up to this.
        losers_per_winner: pairs with the same chosen clip that make one entry.
        multiple_of: the length is rounded up to a multiple of this, beginning again at the first entry, so
            that every step has equally many pairs however it is split over processes.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        *,
        seed: int,
        draws: int,
        low: float,
        high: float,
        losers_per_winner: int = 1,
        multiple_of: int = 1,
    ):
        self.pairs = pairs
        self.seed = seed
        self.draws = draws
        self.low = low
        self.high = high
        self.groups = _groups(pairs, losers_per_winner)
        self.reference_errors: ReferenceErrors | None = None
        self._scale = len(self.groups) / len(pairs)
        self._length = -(-len(self.groups) * draws // multiple_of) * multiple_of
        generator = torch.Generator().manual_seed(seed)
        self._order = [torch.randperm(len(self.groups), generator=generator).tolist() for _ in range(draws)]

    def __len__(self) -> int:
        """Entries times draws, rounded up."""
        return self._length

    def place(self, index: int) -> tuple[list[int], int]:
        """Which pairs make the entry, and which draw it is."""
        draw, position = divmod(index % (len(self.groups) * self.draws), len(self.groups))
        return self.groups[self._order[draw][position]], draw

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``pairs`` (of `EncodedPairs`) with ``index``, ``draw``, ``noise`` [C, F, h, w] and ``timestep``."""
        places, draw = self.place(index)
        pairs = [self.pairs[place] for place in places]
        where: dict[str, Any] = {"seed": self.seed, "pair_id": pairs[0]["pair_id"], "draw": draw}
        for number, pair in enumerate(pairs):
            # weights have the mean 1 over pairs; a batch's loss is a mean over its entries
            scaled = pair | {"weight": pair["weight"] * self._scale}
            if self.reference_errors is not None:
                scaled["reference_errors"] = self.reference_errors(pair["pair_id"], draw)
            pairs[number] = scaled
        return {
            "pairs": pairs,
            "index": index,
            "draw": draw,
            "noise": draw_noise(pairs[0]["chosen_latents"].shape, **where),
            "timestep": draw_timestep(**where, draws=self.draws, low=self.low, high=self.high),
        }


class EvaluationGrid(Dataset[dict[str, Any]]):
    """At most `limit` pairs, spread evenly over the split, at `size` fixed timesteps with fixed noise.

    The noise depends on the pair and the timestep alone, so all runs on a dataset are judged alike.
    """

    def __init__(self, pairs: EncodedPairs, *, size: int, limit: int, low: float, high: float):
        count = min(limit, len(pairs))
        self.pairs = pairs
        self.size = size
        self.chosen_pairs = [position * len(pairs) // count for position in range(count)]
        self.timesteps = [grid_timestep(index, size, low=low, high=high) for index in range(size)]
        self.criteria = [pairs.rows[place]["criterion"] for place in self.chosen_pairs]

    def __len__(self) -> int:
        """Judged pairs times timesteps."""
        return len(self.chosen_pairs) * self.size

    def place(self, index: int) -> tuple[list[int], int]:
        """Which pair it is (a list of one), and which timestep."""
        position, draw = divmod(index, self.size)
        return [self.chosen_pairs[position]], draw

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As `TrainingDraws`; ``index`` is pair * size + timestep."""
        (place,), draw = self.place(index)
        pair = self.pairs[place]
        noise = draw_noise(pair["chosen_latents"].shape, seed=0, pair_id=f"held-out {pair['pair_id']}", draw=draw)
        return {"pairs": [pair], "index": index, "draw": draw, "noise": noise, "timestep": self.timesteps[draw]}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Entries -> a batch of E entries with P pairs.

    Returns:
        chosen_latents, noise [E, C, F, h, w]; rejected_latents [P, C, F, h, w]; winner [P], the entry of
        each pair; timestep, index [E]; preference, tie_probability, weight [P]; conditioning (of E);
        loss_map [P, 1, F, h, w] and reference_errors [P, 2], where there are any.
    """
    pairs = [pair for item in items for pair in item["pairs"]]
    first = [item["pairs"][0] for item in items]
    batch: dict[str, Any] = {name: torch.tensor([item[name] for item in items]) for name in ("timestep", "index")}
    # a mean over P pairs of weight * P / E is the mean over entries of their pairs' sums
    scale = len(pairs) / len(items)
    batch |= {
        "chosen_latents": torch.stack([pair["chosen_latents"] for pair in first]),
        "rejected_latents": torch.stack([pair["rejected_latents"] for pair in pairs]),
        "winner": torch.tensor([place for place, item in enumerate(items) for _ in item["pairs"]]),
        "noise": torch.stack([item["noise"] for item in items]),
        "preference": torch.tensor([pair["preference"] for pair in pairs]),
        "tie_probability": torch.tensor([pair["tie_probability"] for pair in pairs]),
        "weight": torch.tensor([pair["weight"] * scale for pair in pairs]),
        "conditioning": stack_conditioning([pair["conditioning"] for pair in first]),
    }
    if any(pair["loss_map"] is not None for pair in pairs):
        shape = first[0]["chosen_latents"].shape
        maps = [pair["loss_map"] if pair["loss_map"] is not None else torch.ones(1) for pair in pairs]
        batch["loss_map"] = torch.stack([one.expand(1, *shape[1:]) for one in maps])
    if "reference_errors" in pairs[0]:
        batch["reference_errors"] = torch.tensor([pair["reference_errors"] for pair in pairs])
    return batch


def _groups(pairs: EncodedPairs, most: int) -> list[list[int]]:
    """Places of pairs that share condition, window and chosen clip, at most so many each, in order."""
    if most == 1:
        return [[place] for place in range(len(pairs))]
    groups: dict[tuple[Any, ...], list[list[int]]] = {}
    for place, row in enumerate(pairs.rows):
        same = groups.setdefault((row["condition_id"], row["chosen_id"], row["start"]), [])
        if not same or len(same[-1]) == most:
            same.append([])
        same[-1].append(place)
    return [group for same in groups.values() for group in same]
