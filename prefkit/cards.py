"""Cards: what a dataset or a tuned model is, filled into the templates of `data_cards` from counts and records."""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd

from prefkit.aggregation.agreement import krippendorff_alpha

# Licences that the Hub knows by the names conditions are likely to carry.
HUB_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
# What the shipped guidelines ask; other criteria are named without a text.
CRITERIA_TEXTS = {
    "motion_video_alignment": "lips and voice, head and body against the driving motion",
    "expression": "how natural and alive the face is",
    "overall": "which clip one would rather publish",
    "weighted": "the weighted mean of the criteria named in the options",
    "all": "every criterion named in the options prefers the same clip",
}
SPLITS = ("train", "test")


def dataset_card(values: Mapping[str, Any], *, release: bool = False) -> str:
    """The README.md of a preference dataset.

    Args:
        values: what `dataset_card_values` counted; it is kept as `card` in the dataset's prefkit.json.
        release: of the form in which clips are inside the tables (`prefkit.pairs.release.embed_clips`).
    """
    return _render("dataset_card.md.jinja", **values, guidelines_text=guidelines(), release=release)


def dataset_card_values(
    *,
    summary: Mapping[str, Any],
    options: Mapping[str, Any],
    pairs: pd.DataFrame,
    questions: pd.DataFrame,
    votes: pd.DataFrame,
    conditions: pd.DataFrame,
    candidates: pd.DataFrame,
    pick_a_pic: bool = False,
    excluded: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """All a dataset's card says, as plain data.

    Args:
        summary: sources, funnel, warnings and fingerprint, as `prefkit.pairs.build_pairs` returns them.
        options: of the build.
        pairs: rows of `prefkit.tables.PAIRS`.
        questions: the aggregated votes (`prefkit.aggregation.aggregate_votes`); no rows where nobody voted.
        votes: the votes that were counted.
        conditions: all of the workspace.
        candidates: all of the workspace.
        pick_a_pic: whether the dataset has Pick-a-Pic's view.
        excluded: how many annotators were left out, by reason; None where nobody knows.
    """
    return {
        **dataset_facts(pairs, questions, votes, conditions, candidates),
        **{name: summary[name] for name in ("sources", "funnel", "warnings", "fingerprint")},
        "options": dict(options),
        "version": version("prefkit"),
        "pick_a_pic": pick_a_pic,
        "excluded": None if excluded is None else dict(sorted(excluded.items())),
    }


def model_card(
    run: Mapping[str, Any],
    *,
    evaluation: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    licence: str = "other",
) -> str:
    """The README.md of a tuned adapter, from the record of its run.

    Args:
        run: the contents of `run.json`: config, dataset, backbone, versions, seed, counts, history, seconds,
            adapter_hash, finished; other keys are left alone.
        evaluation: the contents of `reports/evaluation-<run>.json`, where the run was evaluated.
        dataset: the contents of the dataset's `prefkit.json`, for its funnel and warnings.
        licence: a name the Hub knows; the adapter may not be freer than its base and its data.
    """
    history = run["history"]
    losses = [row for row in history if "loss" in row]
    judged = [row for row in history if "eval_loss" in row]
    config = {name: value for name, value in sorted(run["config"].items()) if value is not None}
    sources = run["counts"].get("sources", {})
    return _render(
        "model_card.md.jinja",
        run=run,
        config=json.dumps(config, indent=2, default=str),
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        judged=judged[-1] if judged else None,
        evaluation=evaluation,
        dataset=dataset,
        licence=licence,
        simulated=sum(count for name, count in sources.items() if "simulated" in name.split("+")),
        num_pairs=sum(count for name, count in run["counts"].items() if name.endswith("_pairs")),
        version=version("prefkit"),
    )


def dataset_facts(
    pairs: pd.DataFrame,
    questions: pd.DataFrame,
    votes: pd.DataFrame,
    conditions: pd.DataFrame,
    candidates: pd.DataFrame,
) -> dict[str, Any]:
    """What a card says about a dataset, counted from its rows (arguments as in `dataset_card_values`)."""
    used = conditions[conditions["condition_id"].isin(pairs["condition_id"])]
    clips = candidates[candidates["candidate_id"].isin({*pairs["chosen_id"], *pairs["rejected_id"]})]
    licences = _named_counts(used["licence"])
    criteria = sorted({*questions["criterion"], *pairs["criterion"]})
    return {
        "licence": licences[0][0] if len(licences) == 1 and licences[0][0] in HUB_LICENCES else "other",
        "licences": licences,
        "consents": _named_counts(used["consent"]),
        "size_category": next((name for limit, name in SIZES if len(pairs) < limit), "n>1M"),
        "simulated": int((votes["source"] == "simulated").sum()),
        "num_votes": len(votes),
        "num_model_pairs": int((pairs["source"] == "model").sum()),
        "num_pairs": len(pairs),
        "num_annotators": int(votes["annotator"].nunique()),
        "votes_each": _spread(votes["annotator"].value_counts()),
        "guidelines_versions": _named_counts(votes["guidelines_version"]) if len(votes) else [],
        "left_share": left_share(votes),
        "num_synthetic": int(used["truth"].notna().sum()),
        "num_conditions": len(used),
        "num_identities": int(used["identity"].nunique()),
        "num_clips": len(clips),
        "num_latents": int(clips["latents"].notna().sum()),
        "lengths": _lengths(clips),
        "num_weighted": int(pairs["frame_weights"].notna().sum()),
        "generators": _generators(clips),
        "criterion_rows": [_criterion(name, questions, pairs) for name in criteria],
        "criteria_texts": {name: CRITERIA_TEXTS[name] for name in criteria if name in CRITERIA_TEXTS},
        "split_rows": [_split(name, pairs) for name in SPLITS if name in set(pairs["split"])],
        "shared_identities": _shared_identities(pairs),
    }


def guidelines() -> str:
    """The annotation guidelines that ship, without their title, one level deeper."""
    text = (files("data_cards") / "guidelines.md").read_text(encoding="utf-8")
    return re.sub(r"^# .*\n+", "", text, count=1).strip()


def left_share(votes: pd.DataFrame) -> float | None:
    """Share of decided votes for the clip on the left of the screen; about one half where nobody leans."""
    decided = votes[votes["choice"].isin(["a", "b"]) & votes["left"].notna()]
    return float((decided["choice"] == decided["left"]).mean()) if len(decided) else None


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["yaml"] = json.dumps  # a JSON string is a YAML string
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.0f} %"
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.2f}"
    text = environment.from_string((files("data_cards") / template).read_text(encoding="utf-8")).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text)


def _named_counts(values: pd.Series) -> list[tuple[str, int]]:
    counts = values.fillna("not recorded").value_counts()
    return sorted((str(name), int(count)) for name, count in counts.items())


def _spread(counts: pd.Series) -> dict[str, int] | None:
    if counts.empty:
        return None
    return {"least": int(counts.min()), "median": int(counts.median()), "most": int(counts.max())}


def _lengths(clips: pd.DataFrame) -> list[dict[str, Any]]:
    shown = clips[["num_frames", "fps"]].dropna().value_counts().sort_index()
    return [{"num_frames": int(key[0]), "fps": float(key[1]), "clips": int(n)} for key, n in shown.items()]  # type: ignore[index]


def _generators(clips: pd.DataFrame) -> list[dict[str, Any]]:
    columns = ["generator", "weights_hash", "adapter_hash", "settings"]
    filled = clips[columns].astype(object).where(clips[columns].notna(), "–")
    if filled["settings"].nunique() > 12:  # one per clip, as imports have: say so instead of listing them
        filled["settings"] = "one for each clip, in clips.parquet"
    counts = filled.value_counts(sort=False).sort_index()
    return [dict(zip(columns, key, strict=True)) | {"clips": int(count)} for key, count in counts.items()]  # type: ignore[call-overload]


def _criterion(name: str, questions: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    rows = questions[questions["criterion"] == name]
    own = pairs[pairs["criterion"] == name]
    return {
        "criterion": name,
        "questions": len(rows),
        "votes": int(rows["num_votes"].sum()),
        "pairs": len(own),
        "agreement": _mean(rows["agreement"]),
        "ties": _mean(rows["tie_probability"]),
        "preference": _mean(own["preference"].astype("float64")),
        "alpha": krippendorff_alpha(rows) if len(rows) else None,
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
