"""Questions: compare."""

from typing import Annotated

import typer

from prefkit.cli.options import Seed, Split, WorkspacePath
from prefkit.cli.printing import print_summary


def compare(
    workspace: WorkspacePath,
    per_condition: Annotated[int | None, typer.Option(help="At most so many comparisons a condition.")] = None,
    votes: Annotated[int, typer.Option(help="How many votes each comparison wants.")] = 3,
    purpose: Annotated[str, typer.Option(help="train, gold or evaluate.")] = "train",
    strategy: Annotated[str, typer.Option(help="random, or metric-close: the closest scores first.")] = "random",
    metric: Annotated[str | None, typer.Option(help="The metric that metric-close looks at.")] = None,
    split: Split = None,
    seed: Seed = 0,
) -> None:
    """Choose which clips of a condition to ask about."""
    from prefkit.comparisons import make_comparisons
    from prefkit.workspace import Workspace

    summary = make_comparisons(
        Workspace.open(workspace), purpose=purpose, per_condition=per_condition, target_votes=votes,
        seed=seed, strategy=strategy, metric=metric, split=split,
    )  # fmt: skip
    print_summary("comparisons", summary)
