"""From votes to a dataset: build-pairs."""

from pathlib import Path
from typing import Annotated

import typer

from prefkit.cli.options import WorkspacePath
from prefkit.cli.printing import console


def build_pairs(
    workspace: WorkspacePath,
    output: Annotated[
        Path | None, typer.Option(help="The dataset's folder; by default pairs/ in the workspace.")
    ] = None,
    criterion: Annotated[list[str] | None, typer.Option(help="A criterion; again for more. By default all.")] = None,
    min_votes: Annotated[int, typer.Option(help="Votes a comparison needs on a criterion.")] = 1,
    min_agreement: Annotated[float, typer.Option(help="Share of decided votes the majority needs, 0.5 to 1.")] = 0.5,
    test_fraction: Annotated[float, typer.Option(help="Held-out share where conditions name no splits.")] = 0.2,
    allow_mixed_sources: Annotated[
        bool, typer.Option("--allow-mixed-sources", help="Mix simulated and human votes.")
    ] = False,
) -> None:
    """Turn votes into a preference dataset that `datasets.load_dataset` opens, with its card."""
    from prefkit.pairs import build_pairs as build
    from prefkit.votes.store import VoteStore
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    summary = build(
        opened, output, votes=VoteStore.in_workspace(opened, create=False).votes(), criteria=criterion,
        min_votes=min_votes, min_agreement=min_agreement, test_fraction=test_fraction,
        allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip
    for step in summary["funnel"]:
        dropped = "".join(f"\n    −{count} {reason}" for reason, count in step["dropped"].items())
        console.print(f"{step['step']}: {step['total']}{dropped}\n    = {step['left']}", highlight=False)
    console.print(f"Dataset: {summary['path']}", highlight=False, soft_wrap=True)
