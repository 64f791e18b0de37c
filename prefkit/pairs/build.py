"""The stage: votes -> pairs -> the dataset's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.aggregation.aggregate import aggregate_votes
from prefkit.errors import PrefkitError, nearest_names
from prefkit.pairs import layout
from prefkit.pairs.combining import combine_criteria
from prefkit.pairs.counting import check_sources, chosen_criteria, flagged_comparisons, in_order, training_votes
from prefkit.pairs.dataset import finish
from prefkit.pairs.deciding import answered, decided
from prefkit.pairs.marked_ranges import ranges_by_comparison
from prefkit.pairs.options import PairOptions
from prefkit.pairs.rows import PairMaker, rows_of_questions
from prefkit.tables import COMPARISONS
from prefkit.workspace import Workspace


def build_pairs(
    workspace: Workspace,
    output: str | Path | None = None,
    *,
    votes: pd.DataFrame,
    excluded: Mapping[str, int] | None = None,
    dry_run: bool = False,
    pick_a_pic: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Builds the preference dataset: one pair per comparison and criterion that its votes decide.

    The same votes give the same tables byte for byte, whatever their order. The folder appears when it is
    complete; until then an older dataset there stays whole.

    Args:
        workspace: read: conditions, candidates, comparisons, and their files.
        output: the dataset's folder; by default `pairs` in the workspace. A dataset there is replaced.
        votes: rows of `prefkit.tables.VOTES` in any order; only those on comparisons made for training count.
        excluded: how many annotators were left out of `votes`, by reason, for the card; None: it does not say.
        dry_run: count what would be built and write nothing.
        pick_a_pic: also write Pick-a-Pic's view (`prefkit.pairs.pick_a_pic`).
        **options: the fields of `prefkit.pairs.options.PairOptions`.

    Returns:
        path (None after a dry run), pairs (split -> rows), criteria (criterion -> rows), sources (source ->
        votes), fingerprint (of the tables of pairs; not after a dry run), warnings (sentences), and funnel: a
        list of {step, total, dropped: {reason: count}, left} for the votes, the questions (comparison ×
        criterion), the comparisons where criteria are combined, and the pairs.

    Raises:
        PrefkitError: no votes; none that counts; mixed sources; an unknown criterion; an option out of
            range; no pair left; or `output` holds something that is no dataset of prefkit's.
        TypeError: an option that `PairOptions` does not have.
    """
    chosen = PairOptions(**options)
    chosen.check()
    folder = Path(output) if output is not None else workspace.path("pairs")
    layout.check_output(folder)
    if votes.empty:
        raise PrefkitError(
            f"there are no votes in {workspace.root}; vote with 'prefkit annotate' "
            "or simulate some with 'prefkit annotate --simulate'"
        )
    comparisons = workspace.read(COMPARISONS)
    training = comparisons[comparisons["purpose"] == "train"]
    criteria = chosen_criteria(votes, chosen.criteria)
    _check_weights(chosen, criteria)
    counted, votes_step = training_votes(votes, comparisons, criteria)
    check_sources(counted, chosen.allow_mixed_sources)
    questions = _aggregate(counted, training, chosen)
    kept, step = answered(questions, len(training) * len(criteria), flagged_comparisons(counted))
    funnel = [votes_step, step]
    if chosen.combine == "each":
        kept, thresholds = decided(kept, chosen, "questions")
        step["dropped"] |= thresholds["dropped"]
        step["left"] = thresholds["left"]
    else:
        combined, step = combine_criteria(kept, criteria, chosen.combine, chosen.criterion_weights)
        kept, thresholds = decided(combined, chosen, "comparisons")
        step["dropped"] |= thresholds["dropped"]
        funnel.append(step | {"left": thresholds["left"]})
    rows, pairs_step = rows_of_questions(
        [{str(name): value for name, value in row.items()} for row in kept.to_dict("records")],
        {row["comparison_id"]: row for row in workspace.rows(COMPARISONS)},
        workspace,
        ranges_by_comparison(counted),
    )
    return finish(
        workspace,
        folder,
        rows,
        [*funnel, pairs_step],
        chosen,
        record=chosen.record() | {"criteria": criteria},
        sha256=PairMaker(workspace).sha256(),
        asked_of=f"{len(counted)} votes on {len(questions)} questions",
        questions=questions,
        counted=counted,
        published_votes=layout.published_votes(in_order(votes), training),
        dry_run=dry_run,
        pick_a_pic_view=pick_a_pic,
        excluded=excluded,
    )


def _aggregate(counted: pd.DataFrame, training: pd.DataFrame, options: PairOptions) -> pd.DataFrame:
    if options.method == "majority":
        return aggregate_votes(counted)
    return aggregate_votes(
        counted,
        method=options.method,
        comparisons=training,
        resamples=0,  # pairs need no intervals
        allow_mixed_sources=options.allow_mixed_sources,
    )


def _check_weights(options: PairOptions, criteria: list[str]) -> None:
    for name in options.criterion_weights or {}:
        if name not in criteria:
            raise PrefkitError(
                f"a weight is given for {name!r}, which is no criterion here{nearest_names(name, criteria)}"
            )
