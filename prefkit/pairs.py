"""Votes -> the preference dataset: training pairs, the votes behind them, the clips, and a card.

::

    README.md            the card; its header tells `datasets.load_dataset` about the configs pairs and votes
    prefkit.json         what made it: versions, options, the funnel, a fingerprint
    pairs/train.parquet  pairs/test.parquet  (a split without rows has no file)
    votes/votes.parquet  the votes on training comparisons, pseudonymous
    clips/  latents/     one file per candidate
    conditions/<condition_id>/reference_image.png  audio.wav  skeleton.mp4

Paths in the tables are relative to the folder. The folder appears when it is complete, and not before.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.aggregation import aggregate_votes, source_kind, standing_votes
from prefkit.cards import render_dataset_card
from prefkit.errors import PrefkitError, nearest_names
from prefkit.media import sha256_file
from prefkit.progress import track
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS, CRITERIA, PAIRS, VOTES, Table, content_id
from prefkit.workspace import Workspace, atomic_folder

if TYPE_CHECKING:
    import datasets

MARKER = "prefkit.json"
SPLITS = ("train", "test")
CONDITION_FILES = ("reference_image", "audio", "skeleton")
# The votes as they are published: with the two clips they are about.
VOTES_WITH_CLIPS = pa.schema(
    [*VOTES.schema, ("condition_id", pa.string()), ("candidate_a", pa.string()), ("candidate_b", pa.string())]
)


def build_pairs(
    workspace: Workspace,
    output: str | Path | None = None,
    *,
    votes: pd.DataFrame,
    criteria: Sequence[str] | None = None,
    min_votes: int = 1,
    min_agreement: float = 0.5,
    test_fraction: float = 0.2,
    allow_mixed_sources: bool = False,
) -> dict[str, Any]:
    """Builds the preference dataset: one pair per comparison and criterion that its votes decide.

    Args:
        workspace: read: conditions, candidates, comparisons, and their files.
        output: the dataset's folder; by default `pairs` in the workspace. A dataset there is replaced.
        votes: rows of `prefkit.tables.VOTES` in any order; only those on comparisons made for training count.
        criteria: which become pairs; None for every one that was voted on. One row each: filter on the
            column `criterion`.
        min_votes: answers (skips left out) a comparison needs on a criterion, ≥ 1.
        min_agreement: share of the decided votes that the majority needs, in [0.5, 1].
        test_fraction: share of the identities held out, in [0, 1), where the conditions name no splits.
        allow_mixed_sources: let simulated, model and human votes make one dataset.

    Returns:
        path, pairs (split -> rows), criteria (criterion -> rows), sources (source -> votes), fingerprint
        (of the tables of pairs), and funnel: a list of {step, total, dropped: {reason: count}, left} for
        the votes, the questions (comparison × criterion), and the pairs.

    Raises:
        PrefkitError: no votes; none that counts; mixed sources; an unknown criterion; an option out of
            range; no pair left; or `output` holds something that is no dataset of prefkit's.
    """
    folder = Path(output) if output is not None else workspace.path("pairs")
    _check_options(min_votes, min_agreement, test_fraction)
    _check_output(folder)
    if votes.empty:
        raise PrefkitError(
            f"there are no votes in {workspace.root}; vote with 'prefkit annotate' "
            "or simulate some with 'prefkit annotate --simulate'"
        )
    comparisons = workspace.read(COMPARISONS)
    chosen_criteria = _criteria(votes, criteria)
    counted, votes_step = _training_votes(votes, comparisons, chosen_criteria)
    _check_sources(counted, allow_mixed_sources)
    questions = aggregate_votes(counted)
    training = comparisons[comparisons["purpose"] == "train"]
    decided, questions_step = decide(questions, len(training) * len(chosen_criteria), min_votes, min_agreement)
    rows, pairs_step = _pair_rows(decided, training, workspace)
    funnel = [votes_step, questions_step, pairs_step]
    if not rows:
        raise PrefkitError(
            f"no pair is left of {len(counted)} votes on {len(questions)} questions: {_reasons(funnel[1:])}; "
            "collect more votes or relax the thresholds"
        )
    _assign_splits(rows, workspace.read(CONDITIONS), test_fraction)
    rows.sort(key=lambda row: (row["condition_id"], row["criterion"], row["pair_id"]))
    options = {
        "criteria": chosen_criteria,
        "min_votes": min_votes,
        "min_agreement": min_agreement,
        "test_fraction": test_fraction,
        "allow_mixed_sources": allow_mixed_sources,
    }
    with atomic_folder(folder) as temporary:
        published = [_with_files(row, workspace, temporary) for row in track(rows, "Building pairs")]
        _write_votes(temporary, votes, training)
        summary = _write_pairs(temporary, published) | {
            "sources": _counts(counted["source"].fillna("unknown")),
            "funnel": funnel,
        }
        _write_marker(temporary, summary, options)
        (temporary / "README.md").write_text(
            render_dataset_card(
                summary=summary,
                options=options,
                pairs=pd.DataFrame(published),
                questions=questions,
                votes=counted,
                conditions=workspace.read(CONDITIONS),
                candidates=workspace.read(CANDIDATES),
            )
        )
    return {"path": str(folder), **summary}


def load_pairs(path: str | Path) -> "datasets.DatasetDict":
    """Opens a dataset that `build_pairs` wrote, with absolute paths and its clips as `datasets.Video`.

    Args:
        path: the dataset's folder.

    Returns:
        The splits with rows. `chosen` and `rejected` are `Video(decode=False)` ({"path", "bytes": None});
        latents, portrait, speech and skeleton are absolute paths.

    Raises:
        PrefkitError: the folder is no such dataset.
    """
    import datasets

    root = Path(path).resolve()
    files = {split: root / "pairs" / f"{split}.parquet" for split in SPLITS}
    files = {split: file for split, file in files.items() if file.exists()}
    if not (root / MARKER).exists() or not files:
        raise PrefkitError(f"{path} is no preference dataset (it has no {MARKER}); make one with 'prefkit build-pairs'")
    loaded = datasets.DatasetDict()
    for split, file in files.items():
        table = pq.read_table(file, schema=PAIRS.schema)
        for name in ("chosen", "rejected", "chosen_latents", "rejected_latents", *CONDITION_FILES):
            absolute = [None if value is None else str(root / value) for value in table[name].to_pylist()]
            column = pa.array(absolute, pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, column)
        dataset = datasets.Dataset(table, split=datasets.NamedSplit(split))
        for name in ("chosen", "rejected"):
            dataset = dataset.cast_column(name, datasets.Video(decode=False))
        loaded[split] = dataset
    return loaded


# --- which votes count, and what they decide ---------------------------------------------------------


def decide(
    questions: pd.DataFrame, num_asked: int, min_votes: int, min_agreement: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The aggregated questions that say which clip is better, and a funnel step for the others.

    Args:
        questions: what `aggregate_votes` returns.
        num_asked: comparisons made for training × criteria, voted on or not.
        min_votes: answers a question needs.
        min_agreement: share of decided votes the majority needs.
    """
    rules = [
        ("everybody skipped", questions["num_votes"] == 0),
        (f"fewer than {min_votes} votes", questions["num_votes"] < min_votes),
        ("both clips bad", questions["verdict"] == "both_bad"),
        ("tie", questions["verdict"] == "tie"),
        (f"agreement below {min_agreement:g}", questions["agreement"] < min_agreement),
    ]
    dropped = {"not voted on": num_asked - len(questions)}
    left = pd.Series(True, index=questions.index)
    for reason, mask in rules:
        dropped[reason] = int((left & mask).sum())
        left &= ~mask
    return questions[left], _step("questions", num_asked, dropped)


def assign_splits(conditions: pd.DataFrame, test_fraction: float) -> dict[str, str]:
    """Says which condition trains and which tests.

    A split that the conditions name is kept, if they name both. Otherwise identities are held out by the
    hash of their name, so an identity stays where it is when others join; conditions of one identity (or
    of none) are held out one by one.

    Args:
        conditions: columns condition_id, identity, split.
        test_fraction: share of identities (about) that test.

    Returns:
        condition_id -> train or test.
    """
    named = conditions["split"].where(conditions["split"].isin(SPLITS))
    if set(named.dropna()) != {"train"} and named.notna().any():
        known = dict(zip(conditions["identity"][named.notna()], named.dropna(), strict=True))
        filled = named.fillna(conditions["identity"].map(known)).fillna("train")  # as the identity's others
        return dict(zip(conditions["condition_id"], filled, strict=True))
    groups = conditions["identity"].fillna(conditions["condition_id"])
    if groups.nunique() == 1:
        groups = conditions["condition_id"]
    place = {group: int(content_id("split", group), 16) / 16**16 for group in groups}
    test = {group for group, position in place.items() if position < test_fraction}
    if test_fraction > 0 and len(place) > 1:
        test = test or {min(place, key=lambda group: place[group])}
        test = test if len(test) < len(place) else test - {max(place, key=lambda group: place[group])}
    return {
        condition: "test" if group in test else "train"
        for condition, group in zip(conditions["condition_id"], groups, strict=True)
    }


def _criteria(votes: pd.DataFrame, criteria: Sequence[str] | None) -> list[str]:
    voted = sorted(set(votes["criterion"].dropna()))
    if criteria is None:
        return voted
    for name in criteria:
        if name not in CRITERIA and name not in voted:
            raise PrefkitError(f"there is no criterion {name!r}{nearest_names(name, {*CRITERIA, *voted})}")
        if name not in voted:
            raise PrefkitError(f"nobody voted on {name!r}; there are votes on {', '.join(voted)}")
    return sorted(set(criteria))


def _training_votes(
    votes: pd.DataFrame, comparisons: pd.DataFrame, criteria: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    standing, dropped = standing_votes(votes)
    purpose = standing["comparison_id"].map(
        dict(zip(comparisons["comparison_id"], comparisons["purpose"], strict=True))
    )
    dropped["comparison this workspace does not know"] = int(purpose.isna().sum())
    other = purpose.notna() & (purpose != "train")
    for name, count in _counts(purpose[other]).items():
        dropped[f"comparison made for another purpose ({name})"] = count
    wanted = standing["criterion"].isin(criteria)
    dropped["another criterion"] = int(((purpose == "train") & ~wanted).sum())
    counted = standing[(purpose == "train") & wanted].reset_index(drop=True)
    step = _step("votes", len(votes), dropped)
    if counted.empty:
        raise PrefkitError(
            f"none of {len(votes)} votes counts: {_reasons([step])}; vote on this workspace's training comparisons"
        )
    return counted, step


def _check_sources(votes: pd.DataFrame, allow_mixed: bool) -> None:
    kinds = _counts(votes["source"].map(source_kind))
    if len(kinds) < 2 or allow_mixed:
        return
    found = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    raise PrefkitError(
        f"the votes mix {found} ones; build from a store with one kind, or allow it with --allow-mixed-sources "
        "(the column 'source' then says which)"
    )


# --- pairs and their files ---------------------------------------------------------------------------


def _pair_rows(
    decided: pd.DataFrame, comparisons: pd.DataFrame, workspace: Workspace
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of `PAIRS` whose paths are still the workspace's."""
    candidates = _by_key(workspace, CANDIDATES)
    conditions = _by_key(workspace, CONDITIONS)
    sides = comparisons.set_index("comparison_id")[["condition_id", "candidate_a", "candidate_b"]].to_dict("index")
    dropped: Counter[str] = Counter()
    rows = []
    for question in decided.to_dict("records"):
        side = sides[question["comparison_id"]]
        a_won = question["verdict"] == "a"
        ids = (side["candidate_a"], side["candidate_b"])
        chosen, rejected = (candidates.get(name) for name in (ids if a_won else ids[::-1]))
        condition = conditions.get(side["condition_id"])
        reason = _unusable(workspace, condition, chosen, rejected)
        if reason or condition is None or chosen is None or rejected is None:
            dropped[str(reason)] += 1
            continue
        probability = question["probability"]
        rows.append(
            {
                "pair_id": content_id("pair", chosen["candidate_id"], rejected["candidate_id"], question["criterion"]),
                "condition_id": condition["condition_id"],
                "identity": condition["identity"],
                **{name: condition[name] for name in CONDITION_FILES},
                "prompt": condition["text"],
                "fps": _first(condition["fps"], chosen["fps"]),
                "num_frames": _first(condition["num_frames"], chosen["num_frames"]),
                "chosen": chosen["clip"],
                "rejected": rejected["clip"],
                "chosen_id": chosen["candidate_id"],
                "rejected_id": rejected["candidate_id"],
                "chosen_latents": chosen["latents"],
                "rejected_latents": rejected["latents"],
                "criterion": question["criterion"],
                "preference": probability if a_won else 1 - probability,
                "tie_probability": question["tie_probability"],
                "weight": 1.0,
                "num_votes": question["num_votes"],
                "agreement": question["agreement"],
                "source": question["source"],
            }
        )
    return rows, _step("pairs", len(decided), dict(dropped))


def _unusable(
    workspace: Workspace,
    condition: dict[str, Any] | None,
    chosen: dict[str, Any] | None,
    rejected: dict[str, Any] | None,
) -> str | None:
    if condition is None:
        return "condition this workspace does not know"
    if chosen is None or rejected is None:
        return "candidate this workspace does not know"
    for candidate in (chosen, rejected):
        if candidate["clip"] is None or not workspace.path(candidate["clip"]).is_file():
            return "clip file missing"
        if candidate["latents"] is not None and not workspace.path(candidate["latents"]).is_file():
            return "latents file missing"
    for name in CONDITION_FILES:
        if condition[name] is not None and not workspace.path(condition[name]).is_file():
            return f"condition's {name} file missing"
    return None


def _assign_splits(rows: list[dict[str, Any]], conditions: pd.DataFrame, test_fraction: float) -> None:
    used = conditions[conditions["condition_id"].isin({row["condition_id"] for row in rows})]
    split = assign_splits(used, test_fraction)
    for row in rows:
        row["split"] = split[row["condition_id"]]


def _with_files(row: dict[str, Any], workspace: Workspace, folder: Path) -> dict[str, Any]:
    """Puts the files of a pair into the dataset and returns the row with their paths there."""
    places = {name: f"conditions/{row['condition_id']}/{name}" for name in CONDITION_FILES}
    for side in ("chosen", "rejected"):
        places[side] = f"clips/{row[f'{side}_id']}"
        places[f"{side}_latents"] = f"latents/{row[f'{side}_id']}"
    published = dict(row)
    for name, place in places.items():
        if row[name] is None:
            continue
        source = workspace.path(row[name])
        published[name] = place + source.suffix
        _link(source, folder / published[name])
    return published


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system can, else a copy; prefkit replaces files and never edits them."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_pairs(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    (folder / "pairs").mkdir()
    counts = {}
    for split in SPLITS:
        part = [row for row in rows if row["split"] == split]
        counts[split] = len(part)
        if part:  # `datasets` cannot open a Parquet file without rows
            pq.write_table(pa.Table.from_pylist(part, schema=PAIRS.schema), folder / "pairs" / f"{split}.parquet")
    return {
        "pairs": counts,
        "criteria": _counts(pd.Series([row["criterion"] for row in rows])),
        "fingerprint": content_id([(path.name, sha256_file(path)) for path in sorted((folder / "pairs").iterdir())]),
    }


def _write_votes(folder: Path, votes: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    sides = comparisons[["comparison_id", "condition_id", "candidate_a", "candidate_b"]]
    published = votes.merge(sides, on="comparison_id").sort_values(["created_at", "vote_id"], kind="stable")
    published = published.drop_duplicates("vote_id").reindex(columns=VOTES_WITH_CLIPS.names)
    (folder / "votes").mkdir()
    table = pa.Table.from_pandas(published, schema=VOTES_WITH_CLIPS, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), folder / "votes" / "votes.parquet")


def _write_marker(folder: Path, summary: dict[str, Any], options: dict[str, Any]) -> None:
    made_by = {"prefkit": version("prefkit"), "pyarrow": pa.__version__}
    content = {"format": 1, "made_by": made_by, "options": options, **summary}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n")


# --- small helpers -----------------------------------------------------------------------------------


def _check_options(min_votes: int, min_agreement: float, test_fraction: float) -> None:
    if min_votes < 1:
        raise PrefkitError(f"min votes must be at least 1, got {min_votes}")
    if not 0.5 <= min_agreement <= 1:
        raise PrefkitError(f"min agreement is a majority's share, from 0.5 to 1; got {min_agreement}")
    if not 0 <= test_fraction < 1:
        raise PrefkitError(f"test fraction must be from 0 to below 1, got {test_fraction}")


def _check_output(folder: Path) -> None:
    if not folder.exists() or (folder / MARKER).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise PrefkitError(f"{folder} exists and is no preference dataset; name an empty or a new folder")


def _step(name: str, total: int, dropped: dict[str, int]) -> dict[str, Any]:
    dropped = {reason: count for reason, count in dropped.items() if count}
    return {"step": name, "total": total, "dropped": dropped, "left": total - sum(dropped.values())}


def _reasons(steps: list[dict[str, Any]]) -> str:
    return "; ".join(f"{count} × {reason}" for step in steps for reason, count in step["dropped"].items())


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(values.value_counts().items())}


def _by_key(workspace: Workspace, table: Table) -> dict[str, dict[str, Any]]:
    frame = workspace.read(table)
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return {row[table.key[0]]: {str(name): value for name, value in row.items()} for row in records}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
