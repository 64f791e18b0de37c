"""Questions, and what the answers say: compare, votes plan, votes aggregate."""

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid

from prefkit.cli.options import Seed, Split, WorkspacePath
from prefkit.cli.printing import console, print_summary
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    import pandas as pd

    from prefkit.workspace import Workspace

Purpose = Annotated[str, typer.Option(help="The comparisons' purpose: train, gold or evaluate.")]


def compare(
    workspace: WorkspacePath,
    per_condition: Annotated[int | None, typer.Option(help="At most so many comparisons a condition.")] = None,
    votes: Annotated[int, typer.Option(help="How many votes each comparison wants; at most, with --stop-margin.")] = 3,
    stop_margin: Annotated[
        int | None, typer.Option(help="Stop asking when one answer leads by so many votes; 2 is a good one.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="train, gold or evaluate.")] = "train",
    strategy: Annotated[
        str,
        typer.Option(
            help="What to ask first: random; metric-close: the closest scores; metric-disagreement: where metrics "
            "prefer different clips; active: what tells most, given the votes and scores so far."
        ),
    ] = "random",
    metric: Annotated[str | None, typer.Option(help="The metric that metric-close and active look at.")] = None,
    criterion: Annotated[str, typer.Option(help="The criterion whose votes active looks at.")] = "overall",
    split: Split = None,
    seed: Seed = 0,
) -> None:
    """Choose which clips of a condition to ask about."""
    from prefkit.comparisons import make_comparisons
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    summary = make_comparisons(
        opened, purpose=purpose, per_condition=per_condition, target_votes=votes, stop_margin=stop_margin,
        seed=seed, strategy=strategy, metric=metric, split=split, criterion=criterion,
        votes=_votes_so_far(opened) if strategy == "active" else None,
    )  # fmt: skip
    print_summary("comparisons", summary)


def votes_plan(
    workspace: WorkspacePath,
    confidence: Annotated[float, typer.Option(help="Wanted probability that the decided side is right.")] = 0.95,
    accuracy: Annotated[
        float, typer.Option(help="How often an annotator picks the better clip, where the votes do not tell yet.")
    ] = 0.8,
    purpose: Purpose = "train",
) -> None:
    """Say how many votes a confidence takes, and what the votes so far have reached."""
    from prefkit.aggregation import aggregate_votes
    from prefkit.aggregation.plan import plan_votes
    from prefkit.tables import COMPARISONS, CRITERIA
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    comparisons = opened.read(COMPARISONS)
    asked = comparisons[comparisons["purpose"] == purpose]
    if asked.empty:
        raise PrefkitError(f"{workspace} has no comparisons for {purpose}; make some with 'prefkit compare'")
    votes = _votes_so_far(opened)
    questions = aggregate_votes(votes[votes["comparison_id"].isin(asked["comparison_id"])])
    plan = plan_votes(questions, len(asked), CRITERIA, confidence=confidence, accuracy=accuracy)
    for row in plan.astype(object).where(plan.notna(), None).to_dict("records"):
        for line in _plan_lines(row, confidence):
            console.print(line, highlight=False, soft_wrap=True)


def _plan_lines(row: Mapping[Hashable, Any], confidence: float) -> Iterator[str]:
    known = "measured" if row["measured"] else "assumed: --accuracy"
    yield (
        f"{row['criterion']}: {row['votes']} votes on {row['comparisons']} comparisons; "
        f"an annotator is right {row['accuracy']:.0%} of the time ({known})"
    )
    if row["reason"]:
        yield f"    no number of votes will do: {row['reason']}"
        return
    fixed = f"{row['fixed_votes_each']:.0f} each" if row["fixed_votes_each"] else "too many if all get the same"
    yield (
        f"    for {confidence:.0%}: stop at a lead of {row['margin']:.0f} (--stop-margin), "
        f"{row['votes_each']:.1f} votes a comparison; or {fixed}"
    )
    yield (
        f"    reached by {row['reached']:.0f} comparisons ({row['reached_share']:.0%}); "
        f"about {row['votes_needed']:.0f} votes to come"
    )


def votes_aggregate(
    workspace: WorkspacePath,
    purpose: Purpose = "train",
    resamples: Annotated[int, typer.Option(help="Bootstrap draws of annotators; 0 for no intervals.")] = 200,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    allow_mixed_sources: Annotated[
        bool, typer.Option("--allow-mixed-sources", help="Simulated, model and human votes as one.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Fit strengths of clips (the table strengths), side bias and each annotator's reliability."""
    from prefkit.strengths import write_strengths
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    summary, found = write_strengths(
        opened, votes=_votes_so_far(opened), purpose=purpose, resamples=resamples, confidence=confidence,
        seed=seed, allow_mixed_sources=allow_mixed_sources,
    )  # fmt: skip
    print_summary("strengths", summary)
    _print_table(found.criteria.drop(columns="converged"))
    _print_table(found.annotators.sort_values(["criterion", "reliability"]))


def _votes_so_far(workspace: "Workspace") -> "pd.DataFrame":
    """The votes that count; none where nobody has voted."""
    from prefkit.votes.store import VoteStore

    return VoteStore.in_workspace(workspace).votes()


def _print_table(rows: "pd.DataFrame") -> None:
    grid = Grid(*(str(name).replace("_", " ") for name in rows.columns), box=None, pad_edge=False)
    for row in rows.itertuples(index=False):
        grid.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row))
    console.print(grid)
