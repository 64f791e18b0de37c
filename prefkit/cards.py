"""Cards: what a dataset is, filled into the template of `data_cards` from the counts of its own build."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd

from prefkit.aggregation import krippendorff_alpha

# Licences that the Hub knows by the names conditions are likely to carry.
HUB_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def render_dataset_card(
    *,
    summary: Mapping[str, Any],
    options: Mapping[str, Any],
    pairs: pd.DataFrame,
    questions: pd.DataFrame,
    votes: pd.DataFrame,
    conditions: pd.DataFrame,
    candidates: pd.DataFrame,
) -> str:
    """The README.md of a preference dataset.

    Args:
        summary: pairs per split, sources, funnel and fingerprint, as `prefkit.pairs.build_pairs` returns them.
        options: of the build.
        pairs: rows of `prefkit.tables.PAIRS`.
        questions: the aggregated votes (`prefkit.aggregation.aggregate_votes`).
        votes: the votes that were counted.
        conditions: all of the workspace.
        candidates: all of the workspace.
    """
    facts = dataset_facts(pairs, questions, votes, conditions, candidates)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["yaml"] = json.dumps  # a JSON string is a YAML string
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.0f} %"
    template = (files("data_cards") / "dataset_card.md.jinja").read_text()
    return environment.from_string(template).render(
        **facts, **summary, options=dict(options), version=version("prefkit")
    )


def dataset_facts(
    pairs: pd.DataFrame,
    questions: pd.DataFrame,
    votes: pd.DataFrame,
    conditions: pd.DataFrame,
    candidates: pd.DataFrame,
) -> dict[str, Any]:
    """What a card says about a dataset, counted from its rows (arguments as in `render_dataset_card`)."""
    used = conditions[conditions["condition_id"].isin(pairs["condition_id"])]
    clips = candidates[candidates["candidate_id"].isin({*pairs["chosen_id"], *pairs["rejected_id"]})]
    licences = _named_counts(used["licence"])
    return {
        "licence": licences[0][0] if len(licences) == 1 and licences[0][0] in HUB_LICENCES else "other",
        "licences": licences,
        "consents": _named_counts(used["consent"]),
        "size_category": next((name for limit, name in SIZES if len(pairs) < limit), "n>1M"),
        "simulated": int((votes["source"] == "simulated").sum()),
        "num_votes": len(votes),
        "num_annotators": int(votes["annotator"].nunique()),
        "left_share": left_share(votes),
        "num_synthetic": int(used["truth"].notna().sum()),
        "num_conditions": len(used),
        "num_identities": int(used["identity"].nunique()),
        "num_clips": len(clips),
        "generators": _generators(clips),
        "criterion_rows": [_criterion(name, questions, pairs) for name in sorted(set(questions["criterion"]))],
        "split_rows": [_split(name, pairs) for name in ("train", "test") if name in set(pairs["split"])],
        "shared_identities": _shared_identities(pairs),
    }


def left_share(votes: pd.DataFrame) -> float | None:
    """Share of decided votes for the clip on the left of the screen; about one half where nobody leans."""
    decided = votes[votes["choice"].isin(["a", "b"]) & votes["left"].notna()]
    return float((decided["choice"] == decided["left"]).mean()) if len(decided) else None


def _named_counts(values: pd.Series) -> list[tuple[str, int]]:
    counts = values.fillna("not recorded").value_counts()
    return sorted((str(name), int(count)) for name, count in counts.items())


def _generators(clips: pd.DataFrame) -> list[dict[str, Any]]:
    columns = ["generator", "weights_hash", "adapter_hash", "settings"]
    filled = clips[columns].astype(object).where(clips[columns].notna(), "–")
    counts = filled.value_counts(sort=False).sort_index()
    return [dict(zip(columns, key, strict=True)) | {"clips": int(count)} for key, count in counts.items()]  # type: ignore[call-overload]


def _criterion(name: str, questions: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    rows = questions[questions["criterion"] == name]
    return {
        "criterion": name,
        "questions": len(rows),
        "votes": int(rows["num_votes"].sum()),
        "pairs": int((pairs["criterion"] == name).sum()),
        "agreement": _mean(rows["agreement"]),
        "ties": _mean(rows["tie_probability"]),
        "alpha": krippendorff_alpha(rows),
    }


def _split(name: str, pairs: pd.DataFrame) -> dict[str, Any]:
    rows = pairs[pairs["split"] == name]
    return {
        "split": name,
        "pairs": len(rows),
        "conditions": int(rows["condition_id"].nunique()),
        "identities": int(rows["identity"].nunique()),
    }


def _shared_identities(pairs: pd.DataFrame) -> int:
    identities = pairs.dropna(subset=["identity"]).groupby("identity")["split"].nunique()
    return int((identities > 1).sum())


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None
