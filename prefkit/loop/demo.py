"""The whole loop on synthetic portraits, with simulated annotators."""

import json
from pathlib import Path
from typing import Any

from prefkit.backbones.tiny import TinyBackbone
from prefkit.comparisons import make_comparisons
from prefkit.loop.evaluating import evaluate
from prefkit.loop.reporting import report
from prefkit.loop.sizes import HELD_OUT, LoopSize
from prefkit.loop.tuning import tune
from prefkit.pairs import build_pairs
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.synthetic.conditions import add_portraits, check_portraits
from prefkit.synthetic.judge import TIE_MARGIN, make_judge
from prefkit.votes.simulated import simulate_votes
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace


def run_loop(root: str | Path, size: LoopSize, *, seed: int = 0, workers: int = 1) -> Path:
    """Runs sample → score → compare → annotate → build-pairs → train-dpo → evaluate → report; returns the report.

    Every stage does only what is missing, so a second call in the same folder changes nothing.
    """
    check_portraits({"train": size.train, "test": size.test, HELD_OUT: size.evaluate}, seed=seed)
    workspace = Workspace.create(root)
    prepare_pairs(workspace, size, seed=seed, workers=workers)
    tune(workspace, "dpo", size.training, seed=seed)
    evaluate(workspace, "dpo", seed=seed, workers=workers)
    return report(workspace)


def prepare_pairs(workspace: Workspace, size: LoopSize, *, seed: int, workers: int) -> dict[str, Any]:
    """From nothing to the preference dataset, with simulated annotators; returns the summary of build-pairs."""
    backbone = TinyBackbone.from_pretrained()
    add_portraits(workspace, {"train": size.train, "test": size.test, HELD_OUT: size.evaluate}, seed=seed)
    for split in ("train", "test"):
        sample_candidates(workspace, backbone, per_condition=size.candidates, split=split, seed=seed)
    score_candidates(workspace, workers=workers)
    for split in ("train", "test"):
        make_comparisons(workspace, per_condition=size.comparisons, target_votes=size.votes, seed=seed, split=split)
    voted = simulate_votes(
        workspace,
        make_judge(workspace),
        annotators=size.annotators,
        error_rate=size.error_rate,
        left_bias=size.left_bias,
        tie_margin=TIE_MARGIN,
        seed=seed,
    )
    built = workspace.path("pairs/prefkit.json")
    if built.exists() and not voted.votes:
        return json.loads(built.read_text())
    votes = VoteStore.in_workspace(workspace).votes()
    return build_pairs(workspace, votes=votes, excluded={}, criteria=["overall"])
