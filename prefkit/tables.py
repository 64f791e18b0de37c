"""The rows that pass between the stages, in flow order: the contract.

Every stage takes rows and returns rows. A table is a name, the column that identifies a row, and an
Arrow schema; rows are plain dicts or pandas DataFrames. Missing is null with a reason in a column
beside it, never a stand-in value. Ids are content hashes (`content_id`), so running a stage again
finds what is already there. Paths in rows are relative to the workspace, with forward slashes.

Votes, annotators, leases and exclusions live in SQL (`prefkit.votes`); `VOTES` is the shape in which
they leave the store. Pairs leave as a Hugging Face dataset (`prefkit.pairs`).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Table:
    """A kind of row: its name, the columns that identify a row, and its Arrow schema."""

    name: str
    key: tuple[str, ...]
    schema: pa.Schema


def content_id(*parts: Any) -> str:
    """Returns 16 hex digits that depend on nothing but `parts` (anything JSON can hold)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# One thing to animate.
CONDITIONS = Table(
    "conditions",
    ("condition_id",),
    pa.schema(
        [
            ("condition_id", pa.string()),
            ("identity", pa.string()),
            ("reference_image", pa.string()),  # path; null for imported clips without one
            ("audio", pa.string()),  # path of the driving speech
            ("skeleton", pa.string()),  # path of the skeleton video
            ("keypoints", pa.string()),  # path of the driving keypoints (npz), if known
            ("truth", pa.string()),  # path of the known truth (npz); synthetic portraits only
            ("text", pa.string()),
            ("fps", pa.float64()),
            ("num_frames", pa.int64()),
            ("split", pa.string()),  # train, test or evaluate (never asked about); never by pair
            ("licence", pa.string()),
            ("consent", pa.string()),
        ]
    ),
)

# One generated or imported clip.
CANDIDATES = Table(
    "candidates",
    ("candidate_id",),
    pa.schema(
        [
            ("candidate_id", pa.string()),
            ("condition_id", pa.string()),
            ("generator", pa.string()),  # e.g. "tiny", or what the manifest of an import says
            ("weights_hash", pa.string()),
            ("adapter_hash", pa.string()),
            ("settings", pa.string()),  # JSON: steps, guidance, …
            ("seed", pa.int64()),
            ("clip", pa.string()),  # path of an mp4 with the driving speech muxed in; null on error
            ("latents", pa.string()),  # path of safetensors {"latents": [C, F, h, w]}; kept when sampled
            ("sha256", pa.string()),  # of the clip file
            ("fps", pa.float64()),
            ("num_frames", pa.int64()),
            ("round", pa.int64()),
            ("error", pa.string()),  # why there is no clip
        ]
    ),
)

# One metric of one clip.
SCORES = Table(
    "scores",
    ("candidate_id", "metric", "metric_version"),
    pa.schema(
        [
            ("candidate_id", pa.string()),
            ("metric", pa.string()),
            ("metric_version", pa.string()),
            ("value", pa.float64()),  # null when it could not be scored
            ("error", pa.string()),  # the reason, where value is null
            ("details", pa.string()),  # JSON: weights hash, tool versions, frame-wise values
            ("error_type", pa.string()),  # one of prefkit.metrics.metric.Reason, where value is null
        ]
    ),
)

# One question: which of two clips of one condition. a and b are canonical (candidate_a < candidate_b).
COMPARISONS = Table(
    "comparisons",
    ("comparison_id",),
    pa.schema(
        [
            ("comparison_id", pa.string()),
            ("condition_id", pa.string()),
            ("candidate_a", pa.string()),
            ("candidate_b", pa.string()),
            ("purpose", pa.string()),  # train, gold or evaluate
            ("reason", pa.string()),  # why it is worth asking, e.g. "random"
            ("round", pa.int64()),
            ("target_votes", pa.int64()),  # at most, where stop_margin is set
            ("stop_margin", pa.int64()),  # enough as soon as one answer leads by so many votes; null: never early
        ]
    ),
)

CRITERIA = ("motion_video_alignment", "expression", "overall")
CHOICES = ("a", "b", "tie", "both_bad", "skip")
PURPOSES = ("train", "gold", "evaluate")

# One answer on one criterion. Append-only: an undo is a new row that supersedes an old one.
VOTES = Table(
    "votes",
    ("vote_id",),
    pa.schema(
        [
            ("vote_id", pa.string()),  # made by the client, so that sending twice counts once
            ("comparison_id", pa.string()),
            ("annotator", pa.string()),  # a pseudonym
            ("criterion", pa.string()),
            ("repeat", pa.int64()),  # 0, or n for the n-th repeat asked for self-consistency
            ("choice", pa.string()),  # one of CHOICES, in canonical a/b; null for an undo
            ("left", pa.string()),  # a or b: what was on the left of the screen
            ("confidence", pa.int64()),
            ("seconds", pa.float64()),  # from both clips ready to the vote
            ("watched_a", pa.float64()),  # seconds played
            ("watched_b", pa.float64()),
            ("ranges", pa.string()),  # JSON list of {"clip": "a" or "b", "start", "end"}, in seconds
            ("flags", pa.string()),  # JSON list: broken, offensive
            ("skip_reason", pa.string()),
            ("comment", pa.string()),
            ("guidelines_version", pa.string()),
            ("source", pa.string()),  # human, simulated, label-studio, …
            ("supersedes", pa.string()),  # vote_id of the vote this one replaces or undoes
            ("created_at", pa.timestamp("us", tz="UTC")),
            ("seeks", pa.int64()),  # jumps to another time, frame steps included
            ("replays", pa.int64()),  # times the pair was played again from its beginning
        ]
    ),
)

# Aggregated: how good one clip is among the clips of its condition, on one criterion.
STRENGTHS = Table(
    "strengths",
    ("candidate_id", "criterion"),
    pa.schema(
        [
            ("candidate_id", pa.string()),
            ("criterion", pa.string()),
            ("strength", pa.float64()),  # log odds against the condition's average clip; null: no vote stands
            ("low", pa.float64()),  # confidence interval; null where one annotator alone compared
            ("high", pa.float64()),
            ("num_votes", pa.int64()),  # that compared this clip with another
            ("source", pa.string()),  # simulated, human, …, joined by "+"
        ]
    ),
)

# One training example.
PAIRS = Table(
    "pairs",
    ("pair_id",),
    pa.schema(
        [
            ("pair_id", pa.string()),
            ("condition_id", pa.string()),
            ("identity", pa.string()),
            ("reference_image", pa.string()),
            ("audio", pa.string()),
            ("skeleton", pa.string()),
            ("prompt", pa.string()),  # TRL's name for the condition's text
            ("fps", pa.float64()),
            ("num_frames", pa.int64()),
            ("chosen", pa.string()),  # path of the clip in the dataset's folder
            ("rejected", pa.string()),
            ("chosen_id", pa.string()),
            ("rejected_id", pa.string()),
            ("chosen_latents", pa.string()),  # path in the dataset's folder, where latents were kept
            ("rejected_latents", pa.string()),
            ("criterion", pa.string()),
            ("preference", pa.float64()),  # P(chosen better), ties counted half
            ("tie_probability", pa.float64()),
            ("weight", pa.float64()),
            ("num_votes", pa.int64()),
            ("agreement", pa.float64()),  # share of the decided votes that agree with the majority
            ("source", pa.string()),  # simulated, human, …: simulated stays visible to the end
            ("split", pa.string()),
            ("margin", pa.float64()),  # how far the votes (or a metric's scores) put the chosen clip ahead
            ("frame_weights", pa.list_(pa.float64())),  # num_frames weights for both clips; null: all alike
        ]
    ),
)

TABLES = (CONDITIONS, CANDIDATES, SCORES, COMPARISONS, STRENGTHS)
