"""People judge: blind comparisons of base and tuned model in the annotators' queue, and what came of them."""

import json
from typing import Any

from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.comparisons import make_comparisons
from prefkit.human_evaluation import human_win_rates
from prefkit.loop.evaluating import sample_both
from prefkit.loop.sizes import HELD_OUT
from prefkit.tables import CANDIDATES, COMPARISONS
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace, atomic_write


def evaluate_by_people(
    workspace: Workspace,
    run: str,
    *,
    backbone: Backbone | None = None,
    per_condition: int = 1,
    target_votes: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Opens the comparisons that are missing and counts the votes there are.

    Both models' clips of the held-out conditions have the same seeds; nothing on the annotators' page says
    which model made which. Called again after the votes, it has their result.

    Args:
        workspace: read and written; the result goes to reports/people-<run>.json.
        run: whose tuned model meets the base.
        backbone: the base; by default the tiny model.
        per_condition: clips of each model a condition gets.
        target_votes: how many votes each comparison wants.
        seed: as for `prefkit.loop.evaluating.evaluate`, which makes the same clips.

    Returns:
        run, adapter_hash, comparisons, results (`prefkit.human_evaluation.human_win_rates`).
    """
    base: Backbone = TinyBackbone.from_pretrained() if backbone is None else backbone
    adapter_hash = sample_both(workspace, run, base, per_condition=per_condition, seed=seed)
    make_comparisons(
        workspace, purpose="evaluate", split=HELD_OUT, target_votes=target_votes, seed=seed, adapter_hash=adapter_hash
    )
    clips = {row["candidate_id"] for row in workspace.rows(CANDIDATES) if row["adapter_hash"] == adapter_hash}
    comparisons = workspace.read(COMPARISONS)
    asked = comparisons[
        (comparisons["purpose"] == "evaluate")
        & (comparisons["candidate_a"].isin(clips) | comparisons["candidate_b"].isin(clips))
    ]
    votes = VoteStore.in_workspace(workspace).votes()
    result = {
        "run": run,
        "adapter_hash": adapter_hash,
        "comparisons": len(asked),
        "results": human_win_rates(votes, asked, clips, seed=seed),
    }
    with atomic_write(workspace.path(f"reports/people-{run}.json")) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result
