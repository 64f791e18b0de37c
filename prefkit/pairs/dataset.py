"""Rows of pairs and their funnel -> chosen, split, and written as a dataset (or only counted)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.cards import dataset_card, dataset_card_values
from prefkit.croissant import croissant
from prefkit.errors import PrefkitError
from prefkit.pairs import layout, pick_a_pic
from prefkit.pairs.funnel import Step, counts, reasons
from prefkit.pairs.options import PairOptions
from prefkit.pairs.selecting import best_against_worst, capped, without_duplicates
from prefkit.pairs.splits import SPLITS, assign_splits
from prefkit.tables import CANDIDATES, CONDITIONS
from prefkit.workspace import Workspace, atomic_folder

Row = dict[str, Any]


def finish(
    workspace: Workspace,
    folder: Path,
    rows: list[Row],
    funnel: list[Step],
    options: PairOptions,
    *,
    record: Mapping[str, Any],
    sha256: Mapping[str, str | None],
    asked_of: str,
    questions: pd.DataFrame,
    counted: pd.DataFrame,
    published_votes: pd.DataFrame,
    dry_run: bool,
    pick_a_pic_view: bool,
    excluded: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The second half of every build.

    Args:
        workspace: where the files are.
        folder: the dataset's; replaced when everything is written.
        rows: pairs with the workspace's paths.
        funnel: the steps so far; the last one is of pairs and gets what is dropped here.
        options: select, max_per_condition, max_per_identity, weights, test_fraction.
        record: all options as plain data, for the marker and the card.
        sha256: candidate -> hash of its clip.
        asked_of: what the pairs were made of, for the sentence when none is left.
        questions: aggregated votes; without rows where nobody voted.
        counted: the votes that counted.
        published_votes: rows of `layout.VOTES_WITH_CLIPS`.
        dry_run: count and write nothing.
        pick_a_pic_view: also write that view.
        excluded: how many annotators were left out, by reason; None where nobody knows.
    """
    rows = _choose(rows, funnel[-1], options, sha256)
    if not rows:
        raise PrefkitError(
            f"no pair is left of {asked_of}: {reasons([one for one in funnel if one['step'] != 'votes'])}; "
            "collect more votes or relax the thresholds"
        )
    conditions, candidates = workspace.read(CONDITIONS), workspace.read(CANDIDATES)
    split = assign_splits(
        conditions[conditions["condition_id"].isin({row["condition_id"] for row in rows})], options.test_fraction
    )
    for row in rows:
        row["split"] = split[row["condition_id"]]
        if options.weights == "margin":
            row["weight"] = row["margin"]
    rows.sort(key=lambda row: (row["condition_id"], row["criterion"], row["pair_id"]))
    summary = {
        "pairs": {name: sum(row["split"] == name for row in rows) for name in SPLITS},
        "criteria": counts(pd.Series([row["criterion"] for row in rows])),
        "sources": counts(counted["source"].fillna("unknown")),
        "funnel": funnel,
        "warnings": _warnings(rows, counted),
    }
    if dry_run:
        return {"path": None, **summary}
    with atomic_folder(folder) as temporary:
        published = layout.place_files(temporary, rows, workspace)
        layout.write_tables(temporary, published, published_votes, workspace.rows(CANDIDATES))
        if pick_a_pic_view:
            pick_a_pic.write_view(temporary, published)
        summary["fingerprint"] = layout.fingerprint(temporary)
        values = dataset_card_values(
            summary=summary,
            options=record,
            pairs=pd.DataFrame(published),
            questions=questions,
            votes=counted,
            conditions=conditions,
            candidates=candidates,
            pick_a_pic=pick_a_pic_view,
            excluded=excluded,
        )
        layout.write_marker(temporary, {**summary, "card": values}, record)
        card = dataset_card(values)
        (temporary / "README.md").write_text(card)
        layout.write_json(temporary / "croissant.json", croissant(temporary, card))
    return {"path": str(folder), **summary}


def _choose(rows: list[Row], last: Step, options: PairOptions, sha256: Mapping[str, str | None]) -> list[Row]:
    rows, dropped = without_duplicates(rows, sha256)
    _add(last, dropped)
    if options.select == "best-worst":
        rows, dropped = best_against_worst(rows)
        _add(last, dropped)
    for column, limit in (("condition_id", options.max_per_condition), ("identity", options.max_per_identity)):
        if limit is not None:
            rows, dropped = capped(rows, column, limit)
            _add(last, dropped)
    return rows


def _add(last: Step, dropped: Mapping[str, int]) -> None:
    for reason, count in dropped.items():
        if count:
            last["dropped"][reason] = last["dropped"].get(reason, 0) + count
            last["left"] -= count


def _warnings(rows: list[Row], votes: pd.DataFrame) -> list[str]:
    """What is no mistake but should not pass unseen."""
    found = []
    if len(votes) and votes["annotator"].nunique() == 1:
        found.append("All votes are by one annotator, so nobody knows whether others would agree.")
    if len({row["split"] for row in rows}) == 1:
        found.append(f"All pairs are in the split {rows[0]['split']}; nothing is held out.")
    if any(row["num_frames"] is None for row in rows):
        found.append("Some pairs have clips of different length; training refuses those, so cut both to one length.")
    return found
