"""From votes to a dataset: build-pairs, and publish for the Hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.options import WorkspacePath
from prefkit.cli.printing import console
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    from prefkit.votes.store import VoteStore


def build_pairs(
    workspace: WorkspacePath,
    output: Annotated[
        Path | None, typer.Option(help="The dataset's folder; by default pairs/ in the workspace.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the funnel and write nothing.")] = False,
    criterion: Annotated[list[str] | None, typer.Option(help="A criterion; again for more. By default all.")] = None,
    combine: Annotated[
        str, typer.Option(help="Several criteria: each (a pair per criterion), weighted (mean), all (must agree).")
    ] = "each",
    weight: Annotated[
        list[str] | None, typer.Option(help="With --combine weighted: CRITERION=WEIGHT; again for more.")
    ] = None,
    method: Annotated[str, typer.Option(help="How votes are aggregated: majority or bradley-terry.")] = "majority",
    min_votes: Annotated[int, typer.Option(help="Votes a comparison needs on a criterion.")] = 1,
    min_agreement: Annotated[float, typer.Option(help="Share of decided votes the majority needs, 0.5 to 1.")] = 0.5,
    min_probability: Annotated[float, typer.Option(help="P(chosen better) a pair needs, 0.5 to 1.")] = 0.5,
    min_margin: Annotated[
        float, typer.Option(help="2·P(chosen better) − 1 a pair needs, or with --metric a difference of scores.")
    ] = 0.0,
    select: Annotated[str, typer.Option(help="all, or best-worst: a condition's best clip against its worst.")] = "all",
    max_per_condition: Annotated[int | None, typer.Option(help="Pairs a condition may have per criterion.")] = None,
    max_per_identity: Annotated[int | None, typer.Option(help="Pairs an identity may have per criterion.")] = None,
    weights: Annotated[str, typer.Option(help="uniform, or margin: close calls weigh less.")] = "uniform",
    test_fraction: Annotated[float, typer.Option(help="Held-out share where conditions name no splits.")] = 0.2,
    allow_mixed_sources: Annotated[
        bool, typer.Option("--allow-mixed-sources", help="Mix simulated and human votes.")
    ] = False,
    metric: Annotated[
        str | None, typer.Option(help="Take no votes but this metric's scores: pairs with source 'model'.")
    ] = None,
    pick_a_pic: Annotated[bool, typer.Option("--pick-a-pic", help="Also write Pick-a-Pic's columns.")] = False,
) -> None:
    """Turn votes into a preference dataset that `datasets.load_dataset` opens, with its card."""
    from prefkit.pairs import build_pairs as build
    from prefkit.pairs.metric import build_metric_pairs
    from prefkit.votes.store import VoteStore
    from prefkit.workspace import Workspace

    opened = Workspace.open(workspace)
    choosing: dict[str, Any] = {
        "select": select, "max_per_condition": max_per_condition, "max_per_identity": max_per_identity,
        "test_fraction": test_fraction,
    }  # fmt: skip
    writing: dict[str, Any] = {"dry_run": dry_run, "pick_a_pic": pick_a_pic}
    if metric is not None:
        summary = build_metric_pairs(opened, output, metric=metric, min_margin=min_margin, **choosing, **writing)
    else:
        store = VoteStore.in_workspace(opened, create=False)
        summary = build(
            opened, output, votes=store.votes(), excluded=_left_out(store), criteria=criterion,
            combine=combine, criterion_weights=_weights(weight), method=method, min_votes=min_votes,
            min_agreement=min_agreement, min_probability=min_probability, min_margin=min_margin, weights=weights,
            allow_mixed_sources=allow_mixed_sources, **choosing, **writing,
        )  # fmt: skip
    _print_funnel(summary)


def publish(
    dataset: Annotated[Path, typer.Argument(help="The folder that build-pairs wrote.")],
    repository: Annotated[
        str | None, typer.Argument(help="On the Hub, as owner/name. Left out: only write --output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write a release here: clips inside the tables, no latents.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Anybody may read it; by default it is private.")] = False,
) -> None:
    """Embed a dataset's clips for a release, or upload it to the Hugging Face Hub."""
    from prefkit.pairs.release import embed_clips, push_to_hub

    if repository is None and output is None:
        raise PrefkitError("publish has nothing to do; name a repository (owner/name), or a folder with --output")
    if output is not None:
        embedded = embed_clips(dataset, output)
        console.print(f"Release: {output} ({embedded['bytes'] / 1e6:.1f} MB)", highlight=False, soft_wrap=True)
    if repository is not None:
        url = push_to_hub(output or dataset, repository, private=not public)
        console.print(f"Uploaded: {url}", highlight=False, soft_wrap=True)


def _left_out(store: "VoteStore") -> dict[str, int]:
    """Reason -> annotators whose votes are not among `store.votes()`, by a lead's decision or their own."""
    exclusions = store.exclusions()
    standing = exclusions[exclusions["lifted_at"].isna()]
    counts = {str(reason): int(count) for reason, count in standing["reason"].value_counts().items()}
    withdrawn = len(store.withdrawals())
    return counts | ({"consent withdrawn, votes removed": withdrawn} if withdrawn else {})


def _weights(pairs: list[str] | None) -> dict[str, float] | None:
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise PrefkitError(f"--weight got {pair!r}; expected CRITERION=WEIGHT, for example overall=2")
    return found or None


def _print_funnel(summary: dict[str, Any]) -> None:
    for step in summary["funnel"]:
        dropped = "".join(f"\n    −{count} {reason}" for reason, count in step["dropped"].items())
        console.print(f"{step['step']}: {step['total']}{dropped}\n    = {step['left']}", highlight=False, markup=False)
    for warning in summary["warnings"]:
        console.print(f"Note: {warning}", highlight=False, soft_wrap=True)
    if summary["path"] is None:
        splits = ", ".join(f"{count} {name}" for name, count in summary["pairs"].items())
        console.print(f"Dry run: {splits}; nothing was written", highlight=False)
        return
    console.print(f"Dataset: {summary['path']}", highlight=False, soft_wrap=True)
