"""What preference tuning learns from votes of which some are wrong.

    python benchmarks/tiny_unet.py                        (once: the UNet)
    python benchmarks/learning.py backbones               LoRA and full, DiT and UNet, 20 % of the votes wrong
    python benchmarks/learning.py losses [--seeds 0 1 2]  three losses at 0, 20 and 35 % wrong votes
    python benchmarks/learning.py report                  both tables, of the runs there are

Simulated annotators vote on synthetic portraits; a wrong vote picks the clip that is worse or, of two alike,
either. Pairs that are held out were voted on without errors, so their implicit accuracy is against what is
true. The win rate is that of lip-sync as a reader of colours sees it, which the annotators never use, on
held-out conditions against the base with the same seeds. What is made lies under learning/; a run that is
there is not repeated, and several of these commands may run side by side on other seeds or backbones.
"""

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiny_unet import trained_unet

from prefkit.backbones.contract import Backbone
from prefkit.backbones.tiny import TinyBackbone
from prefkit.comparisons import make_comparisons
from prefkit.evaluation import compare_models
from prefkit.loop.evaluating import held_out_clips, sample_both
from prefkit.loop.sizes import HELD_OUT, MARGINS
from prefkit.loop.tuning import tune
from prefkit.pairs import build_pairs
from prefkit.sampling import sample_candidates
from prefkit.synthetic.conditions import add_portraits
from prefkit.synthetic.judge import TIE_MARGIN, make_judge
from prefkit.synthetic.known_truth import DIRECTIONS, known_truth_scores
from prefkit.tables import CANDIDATES, CONDITIONS
from prefkit.votes.simulated import simulate_votes
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace, atomic_write
from trainers.dataset import read_pairs

RESULTS = Path(__file__).parent / "results"
FOLDER = Path("learning")
BACKBONES: dict[str, Callable[[], Backbone]] = {"DiT": TinyBackbone.from_pretrained, "UNet": trained_unet}
SIZES = {"train": 160, "test": 60, HELD_OUT: 60}  # conditions
CLIPS, COMPARISONS, VOTES, ANNOTATORS = 4, 3, 3, 6
# Lip-sync lives in a few cells of the latents.
REGIONS = {"mouth": 20.0}
TRAINING: dict[str, Any] = {
    "max_steps": 100,
    "beta": 500.0,
    "loss_type": ["sigmoid", "sft"],
    "loss_weights": [1.0, 20.0],
    "reference": "cached",
    "learning_rate": 2e-4,
    # where the lips are decided: nearer to the clip the error is about texture
    "timestep_low": 400.0,
    "eval_pairs": 200,
    "eval_steps": 100,
    "save_steps": 50,
    "logging_steps": 10,
    "report_to": "none",
}
FULL: dict[str, Any] = {"use_peft": False, "learning_rate": 3e-5}
LOSSES = ("sigmoid", "robust", "davidson")  # as it is, told the share of wrong labels, knowing of ties
WRONG = (0.0, 0.2, 0.35)


def main() -> None:
    """Runs what is missing and writes the tables of all there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["backbones", "losses", "report"])
    parser.add_argument("--backbone", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.what == "backbones":
        for backbone in options.backbone:
            run(backbone, 0.2, 0, "LoRA", TRAINING)
            run(backbone, 0.2, 0, "full", TRAINING | FULL)
    if options.what == "losses":
        for seed in options.seeds:
            for wrong in WRONG:
                # without wrong labels robust is sigmoid
                for loss in LOSSES if wrong else [name for name in LOSSES if name != "robust"]:
                    run("DiT", wrong, seed, loss, with_loss(loss, wrong, seed))
    write_report()


def with_loss(loss: str, wrong: float, seed: int) -> dict[str, Any]:
    """The options of a run with this loss, which is told what a lead would know: how many labels are wrong."""
    options = TRAINING | {"loss_type": [loss, "sft"]}
    if loss == "robust":
        options["label_smoothing"] = round(voted_workspace("DiT", wrong, seed)[1]["wrong_pairs"], 3)
    return options


def run(backbone: str, wrong: float, seed: int, name: str, options: Mapping[str, Any]) -> None:
    """Trains once, samples the held-out conditions and keeps what came of it."""
    workspace, voted = voted_workspace(backbone, wrong, seed)
    path = workspace.path(f"reports/learning-{name}.json")
    if path.exists():
        return
    record = tune(workspace, name, options, seed=seed, regions=REGIONS, backbone=BACKBONES[backbone]())
    base = BACKBONES[backbone]()
    adapter_hash = sample_both(workspace, name, base, per_condition=1, seed=0)
    scores = [truth_of(workspace, base.weights_hash, which) for which in (None, adapter_hash)]
    rows = {row["metric"]: row for row in compare_models(scores[0], scores[1], DIRECTIONS, margins=MARGINS, seed=0)}
    held_out = next(entry for entry in reversed(record["history"]) if "eval_implicit_accuracy" in entry)
    result = {
        "backbone": backbone,
        "name": name,
        "seed": seed,
        **voted,
        "implicit_accuracy": held_out["eval_implicit_accuracy"],
        "held_out_pairs": min(record["counts"]["test_pairs"], TRAINING["eval_pairs"]),
        "train_pairs": record["counts"]["train_pairs"],
        "seconds": record["seconds"],
        "options": {name: options[name] for name in sorted(options)},
        **{f"{metric}": rows[metric] for metric in ("true_lip_sync", "true_keypoint_error", "true_blink_rate")},
        "commit": commit(),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(backbone, name, seed, wrong, json.dumps(brief(result)), flush=True)


def truth_of(workspace: Workspace, weights_hash: str, adapter_hash: str | None) -> pd.DataFrame:
    """What the reader of colours says of one model's clips of the held-out conditions."""
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    clips = held_out_clips(workspace, weights_hash, adapter_hash)
    return pd.DataFrame(known_truth_scores(workspace, clips, conditions))


# --- what is trained on -------------------------------------------------------------------------------


def base_workspace(backbone: str) -> Workspace:
    """Conditions and the base's candidates, for all rates and seeds."""
    workspace = Workspace.create(FOLDER / backbone / "base")
    done = workspace.path("sampled")
    if done.exists():
        return workspace
    base = BACKBONES[backbone]()
    add_portraits(workspace, SIZES)
    for split in ("train", "test"):
        sample_candidates(workspace, base, per_condition=CLIPS, split=split)
    sample_candidates(workspace, base, per_condition=1, split=HELD_OUT, seed=1)
    done.write_text("")
    return workspace


def voted_workspace(backbone: str, wrong: float, seed: int) -> tuple[Workspace, dict[str, Any]]:
    """A copy of the base's with votes of which this share is wrong, and pairs; and how many are."""
    folder = FOLDER / backbone / f"wrong-{100 * wrong:.0f}-{seed}"
    summary = folder / "voted.json"
    if summary.exists():
        return Workspace.open(folder), json.loads(summary.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    # linked, not copied: tables are replaced whole, clips never change
    shutil.copytree(base_workspace(backbone).root, folder, copy_function=os.link)
    workspace = Workspace.open(folder)
    judge = judge_once(workspace, backbone)
    crowd: dict[str, Any] = {"annotators": ANNOTATORS, "tie_margin": TIE_MARGIN}
    make_comparisons(workspace, per_condition=COMPARISONS, target_votes=VOTES, seed=0, split="train")
    simulate_votes(workspace, judge, error_rate=wrong, seed=2 * seed, **crowd)
    make_comparisons(workspace, per_condition=COMPARISONS, target_votes=VOTES, seed=0, split="test")
    simulate_votes(workspace, judge, error_rate=0.0, seed=2 * seed + 1, **crowd)
    build_pairs(workspace, votes=VoteStore.in_workspace(workspace).votes(), excluded={}, criteria=["overall"])
    found = {"wrong_votes": wrong, "wrong_pairs": wrong_pairs(workspace, judge)}
    summary.write_text(json.dumps(found))
    return workspace, found


def judge_once(workspace: Workspace, backbone: str) -> Callable[..., Mapping[str, float | None]]:
    """The judge, which looks at a clip once, however many workspaces ask."""
    judge, known = make_judge(workspace), _seen(backbone)

    def remembered(candidate: Mapping[str, Any], condition: Mapping[str, Any]) -> Mapping[str, float | None]:
        name = candidate["candidate_id"]
        if name not in known:
            known[name] = judge(candidate, condition)
        return known[name]

    return remembered


@cache
def _seen(_backbone: str) -> dict[str, Mapping[str, float | None]]:
    return {}


def wrong_pairs(workspace: Workspace, judge: Callable[..., Mapping[str, float | None]]) -> float:
    """The share of training pairs whose chosen clip the judge finds worse."""
    conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
    candidates = {row["candidate_id"]: row for row in workspace.rows(CANDIDATES)}

    def quality(candidate_id: str) -> float:
        candidate = candidates[candidate_id]
        return judge(candidate, conditions[candidate["condition_id"]])["overall"] or 0.0

    pairs = read_pairs(workspace.path("pairs"), "train")
    return float(np.mean([quality(row["chosen_id"]) < quality(row["rejected_id"]) for row in pairs]))


# --- the tables ---------------------------------------------------------------------------------------


def write_report() -> None:
    """benchmarks/results/learning.json and .md, of all runs there are."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/*/reports/learning-*.json"))]
    with atomic_write(RESULTS / "learning.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    with atomic_write(RESULTS / "learning.md") as temporary:
        temporary.write_text(as_markdown(found))


def as_markdown(found: list[dict[str, Any]]) -> str:
    """Both tables."""
    both = [one for one in found if one["name"] not in LOSSES]
    lines = [
        "# What preference tuning learns from votes of which some are wrong",
        "",
        "`python benchmarks/learning.py backbones` and `losses`: synthetic portraits, simulated annotators, "
        f"{SIZES['train']} conditions, {VOTES} votes a comparison; {TRAINING['max_steps']} steps of 8 pairs, errors at "
        f"the mouth × {REGIONS['mouth']:g}. Implicit accuracy: on held-out pairs whose votes are right. Win rate: of "
        f"lip-sync by known truth against the base, {SIZES[HELD_OUT]} held-out conditions, same seeds; 95 % intervals "
        "by bootstrap over conditions.",
        "",
        "## Both backbones, LoRA and full",
        "",
        "Wanted: implicit accuracy ≥ 0.65 and an interval that excludes ½.",
        "",
        "| backbone | trained | wrong votes | wrong pairs | implicit accuracy | lip-sync, base → tuned "
        "| win rate (95 %) | markers off, px | passed |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_backbone_line, both),
        "",
        "## Losses, LoRA on the DiT",
        "",
        "Each with the same SFT anchor. Mean over seeds of votes and training, and the range of the seeds.",
        "",
        "| wrong votes | wrong pairs | loss | seeds | implicit accuracy | lip-sync gained | win rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for wrong in WRONG:
        for loss in LOSSES:
            runs = [one for one in found if one["name"] == loss and one["wrong_votes"] == wrong]
            if runs:
                lines.append(_loss_line(loss, wrong, runs))
    commits = sorted({one["commit"] for one in found})
    return "\n".join([*lines, "", f"Commits: {', '.join(commits)}."]) + "\n"


def _backbone_line(one: dict[str, Any]) -> str:
    sync, off = one["true_lip_sync"], one["true_keypoint_error"]
    passed = one["implicit_accuracy"] >= 0.65 and sync["win_rate_low"] > 0.5
    return (
        f"| {one['backbone']} | {one['name']} | {one['wrong_votes']:.0%} | {one['wrong_pairs']:.1%} "
        f"| {one['implicit_accuracy']:.3f} ({one['held_out_pairs']} pairs) "
        f"| {sync['base_mean']:.3f} → {sync['tuned_mean']:.3f} "
        f"| {sync['win_rate']:.1%} ({sync['win_rate_low']:.1%} – {sync['win_rate_high']:.1%}) "
        f"| {off['base_mean']:.2f} → {off['tuned_mean']:.2f} | {'yes' if passed else '**no**'} |"
    )


def _loss_line(loss: str, wrong: float, runs: list[dict[str, Any]]) -> str:
    columns = (
        [one["implicit_accuracy"] for one in runs],
        [one["true_lip_sync"]["difference"] for one in runs],
        [one["true_lip_sync"]["win_rate"] for one in runs],
    )
    shown = [f"{np.mean(column):.3f} ({min(column):.3f} – {max(column):.3f})" for column in columns]
    pairs = np.mean([one["wrong_pairs"] for one in runs])
    return f"| {wrong:.0%} | {pairs:.1%} | {loss} | {len(runs)} | {' | '.join(shown)} |"


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """What is printed of a run."""
    sync = result["true_lip_sync"]
    return {
        "implicit_accuracy": result["implicit_accuracy"],
        "win_rate": [sync["win_rate"], sync["win_rate_low"]],
        "lip_sync": [sync["base_mean"], sync["tuned_mean"]],
        "seconds": result["seconds"],
    }


def commit() -> str:
    """Of the checkout, shortened."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
