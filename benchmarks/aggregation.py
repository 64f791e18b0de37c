"""From votes to strengths: how fast, how right, and with how many votes.

    python benchmarks/aggregation.py [--only SECTION …] [--crowdkit-python PATH]

Votes are drawn from known strengths (`prefkit.synthetic.ballots`). Writes benchmarks/results/aggregation.json
and aggregation.md; a section that is not run keeps its last result. crowd-kit may want other versions of what
prefkit needs, so it runs in an environment of its own: name its Python. Run on one core for the times:
OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/aggregation.py.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from prefkit.aggregation import aggregate_votes
from prefkit.aggregation.counts import Counts, number_questions
from prefkit.aggregation.davidson import expect_answer, probability_better
from prefkit.aggregation.information import Posterior, most_informative
from prefkit.aggregation.model import fit_votes
from prefkit.synthetic.ballots import Ballots, draw_ballots
from prefkit.votes.questions import answers_wanted
from prefkit.workspace import atomic_write

RESULTS = Path(__file__).parent / "results"
LEFT_BIAS = 0.3
MILLION = {"conditions": 25_000, "clips": 4, "num_votes": 1_000_000, "annotators": 50, "careless": 0.2}
TARGETS = {
    "speed": "1,000,000 votes on 100,000 clips in 25,000 conditions in ≤ 10 s and ≤ 2 GB on one core",
    "recovery": "Spearman ≥ 0.95 in sets of 32 at 10 votes a pair; left bias ± 0.05; careless AUC ≥ 0.95",
    "coverage": "95 % intervals cover 95 ± 2 % with 50 annotators over 1,000 repetitions; > 90 % with 5",
    "stopping": "≥ 35 % fewer votes than a fixed five at equal accuracy, annotators right 80 % of the time",
    "active": "≥ 15 % fewer comparisons than random at equal Spearman",
}


def main() -> None:
    """Runs the sections and writes their results."""
    sections: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "speed": speed, "recovery": recovery, "coverage": coverage, "stopping": stopping, "active": active,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--crowdkit-python", help="a Python with crowd-kit and pyarrow")
    parser.add_argument("--repetitions", type=int, default=1000, help="of the coverage study")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(aggregate_alone(options.alone)))
        return
    path = RESULTS / "aggregation.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in options.only:
        started = time.monotonic()
        found = sections[name](options)
        how = {"commit": _commit(), "seconds": round(time.monotonic() - started, 1), "machine": _machine()}
        results[name] = {"target": TARGETS[name], "how": how, **found}
        RESULTS.mkdir(exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n")
        with atomic_write(RESULTS / "aggregation.md") as temporary:
            temporary.write_text(page(results))
        print(json.dumps({name: results[name]}, indent=2))


# --- how fast ------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """A million votes, here and in choix and crowd-kit; ratios by processor time, which other work bends less."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_ballots(**MILLION, left_bias=LEFT_BIAS)
        drawn.votes.to_parquet(Path(folder) / "votes.parquet")
        drawn.comparisons.to_parquet(Path(folder) / "comparisons.parquet")
        alone = subprocess.run(
            [sys.executable, __file__, "--alone", folder], check=True, capture_output=True, text=True
        )
        ours = json.loads(alone.stdout)
        decided = _decided(drawn)
        decided.to_parquet(Path(folder) / "decided.parquet")
        found = {"prefkit": ours, "choix, per condition": choix_seconds(decided)}
        if options.crowdkit_python:
            found["crowd-kit NoisyBradleyTerry"] = crowdkit_seconds(options.crowdkit_python, Path(folder))
    for name, other in found.items():
        if name != "prefkit" and other.get("cpu_seconds"):
            other["times_as_long_as_prefkit"] = round(other["cpu_seconds"] / ours["cpu_seconds"], 1)
    return {"sizes": MILLION, "found": found}


def aggregate_alone(folder: Path) -> dict[str, Any]:
    """Reads the votes and aggregates them, from tables to tables."""
    votes = pd.read_parquet(folder / "votes.parquet")
    comparisons = pd.read_parquet(folder / "comparisons.parquet")
    started, cpu = time.perf_counter(), time.process_time()
    questions = aggregate_votes(votes, method="bradley-terry", comparisons=comparisons, resamples=0)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started, cpu = time.perf_counter(), time.process_time()
    fit_votes(votes, comparisons, resamples=200)
    return {
        "what": "aggregate_votes(method='bradley-terry', resamples=0): ties, left bias, 50 reliabilities",
        "questions": len(questions),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_gb": round(peak, 2),
        "with_200_resamples_seconds": round(time.perf_counter() - started, 1),
        "with_200_resamples_cpu_seconds": round(time.process_time() - cpu, 1),
    }


def choix_seconds(decided: pd.DataFrame) -> dict[str, Any]:
    """Choix's list interface. It solves dense n × n systems, so each condition is a call of its own."""
    import choix

    started, cpu = time.perf_counter(), time.process_time()
    for _, group in decided.groupby("condition"):
        data = list(zip(group["winner"] % MILLION["clips"], group["loser"] % MILLION["clips"], strict=True))
        choix.ilsr_pairwise(MILLION["clips"], data, alpha=0.1)
    return {
        "what": "ilsr_pairwise for each of 25,000 conditions; no ties, no side bias, no annotators",
        "votes": len(decided),
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }


_CROWDKIT = """
import json, sys, time
import pandas as pd
from crowdkit.aggregation import NoisyBradleyTerry
votes = pd.read_parquet(sys.argv[1])
frame = pd.DataFrame({"worker": votes["annotator"], "left": votes["left"], "right": votes["right"],
                      "label": votes["winner"]})
started, cpu = time.perf_counter(), time.process_time()
NoisyBradleyTerry(n_iter=int(sys.argv[2]), random_state=0).fit_predict(frame)
print(json.dumps([time.perf_counter() - started, time.process_time() - cpu]))
"""


def crowdkit_seconds(python: str, folder: Path, iterations: int = 1, limit: int = 600) -> dict[str, Any]:
    """One iteration, where its default is 100; if even that takes too long, the time it had is a lower bound."""
    command = [python, "-c", _CROWDKIT, str(folder / "decided.parquet"), str(iterations)]
    what = f"n_iter={iterations} on all clips at once; no ties"
    before = _children_seconds()
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        spent = round(_children_seconds() - before, 1)
        return {"what": what, "seconds": None, "cpu_seconds": spent, "note": "not finished: at least that long"}
    except subprocess.CalledProcessError as error:
        return {"what": what, "seconds": None, "note": f"failed: {error.stderr.strip().splitlines()[-1]}"}
    seconds, cpu_seconds = json.loads(done.stdout.splitlines()[-1])
    return {"what": what, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _decided(drawn: Ballots) -> pd.DataFrame:
    """The votes without ties, clips as numbers."""
    rows = drawn.votes.merge(drawn.comparisons, on="comparison_id")
    rows = rows[rows["choice"] != "tie"]
    number = pd.Series(np.arange(len(drawn.strengths)), drawn.strengths.index)
    a, b = number[rows["candidate_a"]].to_numpy(), number[rows["candidate_b"]].to_numpy()
    a_wins, a_left = (rows["choice"] == "a").to_numpy(), (rows["left"] == "a").to_numpy()
    return pd.DataFrame(
        {
            "annotator": rows["annotator"].to_numpy(),
            "condition": a // MILLION["clips"],
            "winner": np.where(a_wins, a, b),
            "loser": np.where(a_wins, b, a),
            "left": np.where(a_left, a, b),
            "right": np.where(a_left, b, a),
        }
    )


# --- how right -----------------------------------------------------------------------------------------


def recovery(_: argparse.Namespace) -> dict[str, Any]:
    """Strengths, the left bias and careless annotators, from ten votes a pair."""
    sets = {}
    for clips, conditions in ((32, 20), (16, 40), (8, 80), (4, 200)):
        questions = conditions * clips * (clips - 1) // 2
        drawn = draw_ballots(
            conditions=conditions, clips=clips, num_votes=10 * questions, careless=0.2, left_bias=LEFT_BIAS
        )
        found = fit_votes(drawn.votes, drawn.comparisons, resamples=0)
        rank = _rank_correlations(drawn, found.strengths)
        sets[f"sets of {clips}"] = {
            "conditions": conditions,
            "mean_spearman": round(float(rank.mean()), 4),
            "least_spearman": round(float(rank.min()), 4),
            "left_bias": round(float(found.criteria["left_bias"].iloc[0]), 4),
            "careless_auc": round(_auc(found.annotators, drawn.reliabilities), 4),
        }
    few = {}
    for each in (10, 20, 40, 80):
        areas, biases = [], []
        for seed in range(20):
            drawn = draw_ballots(
                conditions=40, clips=4, num_votes=50 * each, careless=0.2, left_bias=LEFT_BIAS, seed=seed
            )
            found = fit_votes(drawn.votes, drawn.comparisons, resamples=0)
            areas.append(_auc(found.annotators, drawn.reliabilities))
            biases.append(float(found.criteria["left_bias"].iloc[0]) - LEFT_BIAS)
        few[f"{each} votes an annotator"] = {
            "careless_auc": round(float(np.mean(areas)), 4),
            "left_bias_error_root_mean_square": round(float(np.sqrt(np.mean(np.square(biases)))), 4),
        }
    return {"true_left_bias": LEFT_BIAS, "careless_share": 0.2, "sets": sets, "40 sets of 4, 20 repetitions": few}


def coverage(options: argparse.Namespace) -> dict[str, Any]:
    """How often 95 % intervals hold the truth; six clips, 200 resamples."""
    base = {"conditions": 1, "clips": 6}
    cases = {
        "50 annotators, each votes on all 15 pairs": base | {"annotators": 50, "num_votes": 750},
        "5 annotators, each votes on all 15 pairs": base | {"annotators": 5, "num_votes": 75},
        "50 annotators, 10 votes a pair": base | {"annotators": 50, "num_votes": 150},
        "50 annotators with tastes of their own (0.5)": base | {"annotators": 50, "num_votes": 750, "taste": 0.5},
        "50 annotators, 10 of them careless, 15 votes each": base
        | {"annotators": 50, "num_votes": 750, "careless": 0.2},
        "50 annotators, 10 of them careless, 120 votes each in 10 conditions": base
        | {"conditions": 10, "annotators": 50, "num_votes": 6000, "careless": 0.2},
    }
    found = {}
    for number, (name, case) in enumerate(cases.items()):
        repetitions = options.repetitions if number < 2 else options.repetitions // 5
        rates = np.array([_covered(seed, case) for seed in range(repetitions)])
        found[name] = {
            "repetitions": repetitions,
            "probabilities": round(float(rates[:, 0].mean()), 4),
            "strengths": round(float(rates[:, 1].mean()), 4),
            "standard_error": round(float(rates[:, 0].std() / np.sqrt(repetitions)), 4),
            "mean_width": round(float(rates[:, 2].mean()), 4),
        }
    return {"found": found}


def _covered(seed: int, case: dict[str, Any]) -> tuple[float, float, float]:
    drawn = draw_ballots(**case, left_bias=LEFT_BIAS, seed=seed)
    found = fit_votes(drawn.votes, drawn.comparisons, seed=seed)
    asked = drawn.comparisons.set_index("comparison_id").loc[found.questions["comparison_id"]]
    advantage = drawn.strengths[asked["candidate_a"]].to_numpy() - drawn.strengths[asked["candidate_b"]].to_numpy()
    truth = expected_probability(advantage, case.get("taste", 0.0))
    low, high = found.questions["low"], found.questions["high"]
    strengths = found.strengths.set_index("candidate_id").loc[drawn.strengths.index]
    true = drawn.strengths - drawn.strengths.groupby(np.arange(len(drawn.strengths)) // case["clips"]).transform("mean")
    return (
        float(((low <= truth) & (truth <= high)).mean()),
        float(((strengths["low"] <= true) & (true <= strengths["high"])).mean()),
        float((high - low).mean()),
    )


def expected_probability(advantage: np.ndarray, taste: float, tie: float = 0.5) -> np.ndarray:
    """P(a better) over annotators whose opinion of the difference varies by √2 · taste."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    spread = np.sqrt(2) * taste * nodes
    return probability_better(advantage[:, None] + spread, tie) @ (weights / weights.sum())


def _rank_correlations(drawn: Ballots, strengths: pd.DataFrame) -> np.ndarray:
    clips = pd.concat([drawn.comparisons.set_index(side)["condition_id"] for side in ("candidate_a", "candidate_b")])
    condition = clips[~clips.index.duplicated()]
    both = strengths.set_index("candidate_id")[["strength"]].assign(true=drawn.strengths, condition=condition)
    groups = both.groupby("condition")
    return np.array([stats.spearmanr(group["strength"], group["true"])[0] for _, group in groups])


def _auc(annotators: pd.DataFrame, truth: pd.Series) -> float:
    reliability = annotators.set_index("annotator")["reliability"]
    careless = truth[reliability.index] == 0
    u = stats.mannwhitneyu(reliability[~careless], reliability[careless]).statistic
    return float(u / (careless.sum() * (~careless).sum()))


# --- with how many votes -------------------------------------------------------------------------------


def stopping(_: argparse.Namespace) -> dict[str, Any]:
    """Annotators who are right 80 % of the time, no ties; 20,000 comparisons."""
    rng = np.random.default_rng(0)
    comparisons, most, accuracy = 20_000, 60, 0.8
    right = rng.random((comparisons, 3, most)) < accuracy
    found = {}
    for number in (3, 5):
        found[f"fixed {number} votes"] = {
            "votes": number,
            "accuracy": round(float((right[:, 0, :number].sum(axis=1) > number / 2).mean()), 4),
        }
    for cap in (5, 9, most):
        votes, correct = np.array([_stop(walk[0], 2, cap) for walk in right]).T
        found[f"margin 2, at most {cap} votes"] = {
            "votes": round(float(votes.mean()), 3),
            "accuracy": round(float(correct.mean()), 4),
            "fewer_than_fixed_5": round(1 - float(votes.mean()) / 5, 3),
        }
    each = np.array([[_stop(walk, 2, most)[0] for walk in three] for three in right[:5000]])
    three = {
        "votes a criterion if each stops by itself": round(float(each.mean()), 3),
        "ballots if the page asks all three until the slowest has stopped": round(float(each.max(axis=1).mean()), 3),
        "fewer_ballots_than_fixed_5": round(1 - float(each.max(axis=1).mean()) / 5, 3),
    }
    return {"found": found, "three independent criteria": three}


def _stop(right: np.ndarray, margin: int, most: int) -> tuple[int, float]:
    """Votes asked, and whether the majority is right (half where it is level)."""
    counts = {"a": 0, "b": 0}
    asked = 0
    while answers_wanted(most, margin, asked, [counts]):
        counts["a" if right[asked] else "b"] += 1
        asked += 1
    return asked, 0.5 + 0.5 * float(np.sign(counts["a"] - counts["b"]))


def active(_: argparse.Namespace) -> dict[str, Any]:
    """One vote a comparison; after each batch the strengths are fitted and compared with the truth."""
    found = {}
    for clips, batch, repetitions, wanted in ((32, 16, 100, 0.9), (16, 8, 200, 0.85), (8, 4, 400, 0.75)):
        every = clips * (clips - 1) // 2
        budget = min(every, 24 * batch) // batch * batch
        curves = {
            strategy: np.mean([_arena(clips, seed, strategy, budget, batch) for seed in range(repetitions)], axis=0)
            for strategy in ("random", "active")
        }
        needed = {name: _reaches(curve, batch, wanted) for name, curve in curves.items()}
        found[f"sets of {clips}"] = {
            "mean_spearman_wanted": wanted,
            "repetitions": repetitions,
            "comparisons": needed,
            "fewer": round(1 - needed["active"] / needed["random"], 3) if None not in needed.values() else None,
            "curves": {name: [round(float(value), 3) for value in curve] for name, curve in curves.items()},
            "batch": batch,
        }
    return {"spread": SPREAD, "found": found}


# at this spread an annotator is right about two random clips 80 % of the time
SPREAD = 1.6


def _arena(clips: int, seed: int, strategy: str, budget: int, batch: int) -> list[float]:
    rng = np.random.default_rng(seed)
    strengths = rng.normal(0, SPREAD, clips)
    names = [f"{number:03d}" for number in range(clips)]
    pairs = list(itertools.combinations(names, 2))
    table = pd.DataFrame(
        {
            "comparison_id": [f"{a}-{b}" for a, b in pairs],
            "condition_id": "only",
            "candidate_a": [a for a, _ in pairs],
            "candidate_b": [b for _, b in pairs],
        }
    )
    place = {pair: number for number, pair in enumerate(pairs)}
    left = [pairs[number] for number in rng.permutation(len(pairs))]
    outcomes: dict[int, int] = {}
    posterior = Posterior.of(None)
    curve = []
    while len(outcomes) < budget:
        belief = posterior.belief("only", names)
        chosen = most_informative(belief, left, batch) if strategy == "active" else left[:batch]
        for a, b in chosen:
            answer = expect_answer(np.array(strengths[int(a)] - strengths[int(b)]), 0.5)
            better = float(0.5 * (1 - answer.tie) + answer.score)
            tied = float(answer.tie)
            outcomes[place[a, b]] = int(rng.choice(3, p=[better, tied, 1 - better - tied]))
        left = [pair for pair in left if place[pair] not in outcomes]
        posterior = Posterior.of(_counts(table, outcomes))
        curve.append(float(stats.spearmanr(posterior.belief("only", names).mean, strengths)[0]))
    return curve


def _counts(table: pd.DataFrame, outcomes: dict[int, int]) -> Counts:
    asked = np.zeros(len(table), dtype=bool)
    asked[list(outcomes)] = True
    questions, place = number_questions(table, asked)
    question = place[list(outcomes)]
    order = np.argsort(question)
    num = len(question)
    return Counts(
        questions=questions,
        question=question[order],
        annotator=np.zeros(num, dtype=np.int64),
        side=np.zeros(num),
        outcome=np.array(list(outcomes.values()))[order],
        count=np.ones(num),
        annotators=np.array(["only"], dtype=object),
    )


def _reaches(curve: np.ndarray, batch: int, wanted: float) -> float | None:
    """Comparisons at which the curve first reaches `wanted`, between batches by a straight line."""
    above = np.flatnonzero(curve >= wanted)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return float(batch)
    share = (wanted - curve[place - 1]) / (curve[place] - curve[place - 1])
    return round(batch * (place + share), 1)


# --- what is written -----------------------------------------------------------------------------------


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Aggregation: how fast, how right, with how many votes", "", "`python benchmarks/aggregation.py`", ""]
    for name, section in results.items():
        how = section["how"]
        lines += [f"## {name.capitalize()}", "", f"Wanted: {section['target']}.", ""]
        lines += _list({key: value for key, value in section.items() if key not in ("target", "how")})
        lines += ["", f"Commit {how['commit']}, {how['machine']}, {how['seconds']} s.", ""]
    return "\n".join(lines)


def _list(values: dict[str, Any], depth: int = 0) -> list[str]:
    lines = []
    for name, value in values.items():
        if name == "curves":
            continue
        label = "  " * depth + f"- {name.replace('_', ' ')}"
        if isinstance(value, dict) and all(not isinstance(part, dict) for part in value.values()):
            lines.append(label + ": " + ", ".join(f"{key.replace('_', ' ')} {part}" for key, part in value.items()))
        elif isinstance(value, dict):
            lines += [label, *_list(value, depth + 1)]
        else:
            lines.append(f"{label}: {value}")
    return lines


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "prefkit/aggregation", "prefkit/synthetic/ballots.py", __file__)
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _machine() -> str:
    busy = os.getloadavg()[0]
    return f"{platform.machine()}, {os.cpu_count()} cores, load {busy:.1f} at the end"


if __name__ == "__main__":
    main()
