"""Decided questions -> rows of `PAIRS` whose paths are still the workspace's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefkit.pairs.funnel import Step, step
from prefkit.pairs.marked_ranges import Range, frame_weights
from prefkit.tables import CANDIDATES, CONDITIONS, content_id
from prefkit.workspace import Workspace

CONDITION_FILES = ("reference_image", "audio", "skeleton")
CLIP_FILES = ("chosen", "rejected")
LATENT_FILES = ("chosen_latents", "rejected_latents")

Row = dict[str, Any]


def rows_of_questions(
    questions: Iterable[Mapping[str, Any]],
    comparisons: Mapping[str, Mapping[str, Any]],
    workspace: Workspace,
    ranges: Mapping[str, Sequence[Iterable[Range]]],
) -> tuple[list[Row], Step]:
    """A pair per decided question, and the step of the funnel with those whose files are not there.

    Args:
        questions: with comparison_id, criterion, verdict (a or b), probability, tie_probability, agreement,
            num_votes and source.
        comparisons: comparison_id -> condition_id, candidate_a, candidate_b.
        workspace: read: conditions, candidates, and which of their files exist.
        ranges: what annotators marked (`prefkit.pairs.marked_ranges.ranges_by_comparison`).
    """
    asked = list(questions)
    maker = PairMaker(workspace)
    rows = []
    for question in asked:
        sides = comparisons[question["comparison_id"]]
        ids = (sides["candidate_a"], sides["candidate_b"])
        a_won = question["verdict"] == "a"
        row = maker.pair(sides["condition_id"], *(ids if a_won else ids[::-1]), question["criterion"])
        if row is None:
            continue
        preference = question["probability"] if a_won else 1 - question["probability"]
        rows.append(
            row
            | {
                "preference": preference,
                "margin": 2 * preference - 1,
                "frame_weights": _frame_weights(row, ranges.get(question["comparison_id"])),
                **{name: question[name] for name in ("tie_probability", "num_votes", "agreement", "source")},
            }
        )
    return rows, step("pairs", len(asked), maker.dropped)


class PairMaker:
    """Makes rows of two clips and counts those it cannot make.

    Attributes:
        dropped: reason -> how many.
        candidates: candidate_id -> row.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.candidates = {row["candidate_id"]: row for row in workspace.rows(CANDIDATES)}
        self.conditions = {row["condition_id"]: row for row in workspace.rows(CONDITIONS)}
        self.dropped: Counter[str] = Counter()

    def pair(self, condition_id: str, chosen_id: str, rejected_id: str, criterion: str) -> Row | None:
        """The columns of `PAIRS` that follow from the two clips; None (and a count) where one is not usable."""
        condition = self.conditions.get(condition_id)
        chosen, rejected = self.candidates.get(chosen_id), self.candidates.get(rejected_id)
        if condition is None or chosen is None or rejected is None:
            missing = "condition" if condition is None else "candidate"
            self.dropped[f"{missing} this workspace does not know"] += 1
            return None
        reason = self._missing_file(condition, chosen, rejected)
        if reason is not None:
            self.dropped[reason] += 1
            return None
        return {
            "pair_id": content_id("pair", chosen_id, rejected_id, criterion),
            "condition_id": condition_id,
            "identity": condition["identity"],
            **{name: condition[name] for name in CONDITION_FILES},
            "prompt": condition["text"],
            "fps": _first(condition["fps"], _shared(chosen, rejected, "fps")),
            "num_frames": _first(condition["num_frames"], _shared(chosen, rejected, "num_frames")),
            "chosen": chosen["clip"],
            "rejected": rejected["clip"],
            "chosen_id": chosen_id,
            "rejected_id": rejected_id,
            "chosen_latents": chosen["latents"],
            "rejected_latents": rejected["latents"],
            "criterion": criterion,
            "weight": 1.0,
        }

    def sha256(self) -> dict[str, str | None]:
        """Candidate -> SHA-256 of its clip."""
        return {name: row["sha256"] for name, row in self.candidates.items()}

    def _missing_file(self, condition: Row, chosen: Row, rejected: Row) -> str | None:
        for candidate in (chosen, rejected):
            if candidate["clip"] is None or not self.workspace.path(candidate["clip"]).is_file():
                return "clip file missing"
            if candidate["latents"] is not None and not self.workspace.path(candidate["latents"]).is_file():
                return "latents file missing"
        for name in CONDITION_FILES:
            if condition[name] is not None and not self.workspace.path(condition[name]).is_file():
                return f"condition's {name} file missing"
        return None


def _frame_weights(row: Row, people: Sequence[Iterable[Range]] | None) -> list[float] | None:
    if people is None or not row["num_frames"] or not row["fps"]:
        return None  # nobody marked anything, or the two clips differ in length and share no frames
    return frame_weights(people, row["num_frames"], row["fps"])


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _shared(first: Row, second: Row, name: str) -> Any:
    return first[name] if first[name] == second[name] else None
