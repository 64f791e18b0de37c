"""Verdicts as in GenAI-Bench (TIGER-Lab, arXiv 2406.04485) and arenas like it.

| column | becomes |
|---|---|
| `left_video`, `right_video` | the clips: paths relative to the file |
| `prompt` | the condition and its text |
| `left_model`, `right_model`, where they are there | generators |
| `vote_type` | a vote on `overall` |
| `leftvote` or `A>B` | left |
| `rightvote` or `B>A` | right |
| `tievote` or `A=B=Good` | tie |
| `bothbad_vote` or `A=B=Bad` | both bad |

The data names no annotators; each row is one person's vote, so each row gets an annotator of its own.
"""

from pathlib import Path

from prefkit.importing.manifest import word
from prefkit.importing.verdicts import Verdict, cell, read_rows, translated

CHOICES = {
    "leftvote": "left",
    "rightvote": "right",
    "tievote": "tie",
    "bothbad_vote": "both_bad",
    "A>B": "left",
    "B>A": "right",
    "A=B=Good": "tie",
    "A=B=Bad": "both_bad",
}


def read_verdicts(source: Path, _scratch: Path) -> list[Verdict]:
    """Reads verdicts of GenAI-Bench's form.

    Raises:
        PrefkitError: a column is missing, a cell is empty or says something else.
    """
    verdicts = []
    for number, row in enumerate(read_rows(source, ("left_video", "right_video", "prompt", "vote_type")), start=1):
        prompt = cell(source, number, row, "prompt")
        verdicts.append(
            Verdict(
                row=number,
                left=source.parent / cell(source, number, row, "left_video"),
                right=source.parent / cell(source, number, row, "right_video"),
                choice=translated(source, number, "vote_type", cell(source, number, row, "vote_type"), CHOICES),
                criterion="overall",
                annotator=f"genai-bench-{number}",
                condition=prompt,
                text=prompt,
                generators=(word(row.get("left_model")), word(row.get("right_model"))),
            )
        )
    return verdicts
