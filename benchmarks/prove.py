"""The gate: does preference tuning make the tiny model better, as known truth has it?

    make prove        (about 25 minutes on two cores without a GPU)

On held-out conditions of unseen people and speech, the tuned model meets the base with the same seeds.
Judged by a reader of colours that the simulated annotators never use. Beside it, at equal compute,
supervised fine-tuning on the chosen clips alone, and the better of two clips of the base.
Writes benchmarks/results/prove.json and prove.md, and exits with 1 when the gate is not passed.
"""

import json
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from prefkit.backbones.tiny import TinyBackbone
from prefkit.evaluation import compare_models
from prefkit.loop.demo import prepare_pairs
from prefkit.loop.evaluating import all_scores, evaluate, held_out_clips
from prefkit.loop.reporting import report
from prefkit.loop.sizes import DEMO, HELD_OUT, MARGINS
from prefkit.loop.tuning import tune
from prefkit.sampling import sample_candidates
from prefkit.scoring import score_candidates
from prefkit.synthetic.judge import make_judge
from prefkit.synthetic.known_truth import DIRECTIONS
from prefkit.tables import CONDITIONS
from prefkit.workspace import Workspace, atomic_write

RESULTS = Path(__file__).parent / "results"
STEPS = 250
SIZE = replace(DEMO, train=200, test=40, evaluate=200, training=dict(DEMO.training) | {"max_steps": STEPS})
# Forwards of one clip: a DPO step takes 3 for each of two clips (forward, backward) and 1 for each clip's
# reference; a supervised step takes 3 for the chosen clip. So 8 to 3.
SFT_STEPS = STEPS * 8 // 3
SEED = 0
WORKERS = 2


def main() -> int:
    """Runs what is missing of the comparison, writes the results, returns 0 if the gate is passed."""
    started = time.monotonic()
    commit = _git("rev-parse", "HEAD") + ("" if not _git("status", "--porcelain", "prefkit", "trainers") else "+")
    workspace = Workspace.create("prove")
    pairs = prepare_pairs(workspace, SIZE, seed=SEED, workers=WORKERS)
    tune(workspace, "dpo", SIZE.training, seed=SEED)
    sft = {**SIZE.training, "objective": "sft", "max_steps": SFT_STEPS, "eval_steps": SFT_STEPS // 4}
    tune(workspace, "sft", sft, seed=SEED)
    comparisons = {run: evaluate(workspace, run, seed=SEED, workers=WORKERS)["results"] for run in ("dpo", "sft")}
    comparisons["best of two"] = best_of_two(workspace)
    report(workspace)
    result = {
        "command": "make prove",
        "commit": commit,
        "machine": f"{platform.machine()}, {platform.system()}, no GPU",
        "minutes": round((time.monotonic() - started) / 60, 1),
        "sizes": {"train": SIZE.train, "test": SIZE.test, "evaluate": SIZE.evaluate, "pairs": pairs["pairs"]},
        "steps": {"dpo": STEPS, "sft": SFT_STEPS},
        "training": SIZE.training,
        "gate": gate(comparisons["dpo"]),
        "comparisons": comparisons,
    }
    RESULTS.mkdir(exist_ok=True)
    with atomic_write(RESULTS / "prove.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    page = summary(result)
    with atomic_write(RESULTS / "prove.md") as temporary:
        temporary.write_text(page)
    print(page)
    return 0 if all(check["passed"] for check in result["gate"]) else 1


def best_of_two(workspace: Workspace) -> list[dict[str, Any]]:
    """The base's clip against the better of it and one more, chosen by what the simulated annotators see."""
    base = TinyBackbone.from_pretrained()
    sample_candidates(workspace, base, per_condition=2, split=HELD_OUT, seed=SEED + 1)
    score_candidates(workspace, workers=WORKERS)
    judge = make_judge(workspace)
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in held_out_clips(workspace, base.weights_hash, None):
        clips.setdefault(row["condition_id"], []).append(row)
    first = [rows[0] for rows in clips.values()]
    best = [
        max(rows, key=lambda row: judge(row, conditions[row["condition_id"]])["overall"]) for rows in clips.values()
    ]
    # the same seed on both sides stands for the same condition: the choice is part of the method
    scores = [all_scores(workspace, rows).assign(seed=0) for rows in (first, best)]
    return compare_models(scores[0], scores[1], DIRECTIONS, margins=MARGINS, seed=SEED)


def gate(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must hold, with what was found."""
    rows = {row["metric"]: row for row in results}
    sync = rows["true_lip_sync"]
    checks = [
        ("win rate by known truth is at least 60 %", sync["win_rate"] >= 0.6, sync["win_rate"]),
        ("its 95 % interval lies above 50 %", sync["win_rate_low"] > 0.5, sync["win_rate_low"]),
        ("at least 200 held-out conditions", sync["num_conditions"] >= 200, sync["num_conditions"]),
        ("the lip-sync network agrees (sync_d)", rows["sync_d"]["win_rate"] > 0.5, rows["sync_d"]["win_rate"]),
    ]
    checks += [
        (f"{name} is not inferior (margin {margin})", bool(rows[name]["non_inferior"]), rows[name]["bound"])
        for name, margin in MARGINS.items()
    ]
    return [{"check": text, "passed": bool(passed), "found": found} for text, passed, found in checks]


def summary(result: dict[str, Any]) -> str:
    """The results as a page of Markdown."""
    lines = [
        "# Does preference tuning help? The gate's latest result",
        "",
        f"`{result['command']}` at commit `{result['commit']}`, {result['minutes']} minutes on {result['machine']}.",
        f"Synthetic portraits, simulated annotators. {result['sizes']['pairs']} pairs; "
        f"{result['steps']['dpo']} steps of Diffusion-DPO.",
        "",
        "| must hold | found | passed |",
        "|---|---|---|",
        *(
            f"| {check['check']} | {check['found']:.3f} | {'yes' if check['passed'] else '**no**'} |"
            for check in result["gate"]
        ),
        "",
        f"Against the base on {result['sizes']['evaluate']} held-out conditions, at equal compute "
        f"({result['steps']['sft']} supervised steps); ties count half, intervals by bootstrap over conditions:",
        "",
        "| | metric | base | tuned | difference (95 %) | win rate (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in result["comparisons"].items():
        for row in pd.DataFrame(rows).dropna(subset=["base_mean"]).to_dict("records"):
            lines.append(_line(name, row))
    return "\n".join(lines) + "\n"


def _line(name: str, row: dict[str, Any]) -> str:
    rate = "–"
    if not pd.isna(row["win_rate"]):
        rate = f"{row['win_rate']:.1%} ({row['win_rate_low']:.1%} – {row['win_rate_high']:.1%})"
    difference = f"{row['difference']:+.3f} ({row['difference_low']:+.3f} – {row['difference_high']:+.3f})"
    return f"| {name} | {row['metric']} | {row['base_mean']:.3f} | {row['tuned_mean']:.3f} | {difference} | {rate} |"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
