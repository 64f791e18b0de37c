import json
import shutil
import urllib.request

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.media import write_clip
from prefkit.tables import CANDIDATES, COMPARISONS, CRITERIA
from prefkit.votes.label_studio.client import LabelStudio
from prefkit.votes.label_studio.sync import pull, push
from prefkit.votes.label_studio.tasks import task_of, votes_of
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace


def workspace_in(folder, pairs=3):
    made = Workspace.create(folder)
    for n in range(pairs):
        for side in "ab":
            write_clip(made.path(f"clips/{n}{side}.mp4"), np.full((5, 32, 32, 3), 40 * n, np.uint8), 25)
            made.append(CANDIDATES, [{"candidate_id": f"{n}{side}", "clip": f"clips/{n}{side}.mp4"}])
    made.append(
        COMPARISONS,
        [{"comparison_id": f"q{n}", "candidate_a": f"{n}a", "candidate_b": f"{n}b", "purpose": "gold" if n == 0 else
          "train", "target_votes": 2} for n in range(pairs)],
    )  # fmt: skip
    return made


def annotation(choices, number=7, **more):
    result = [{"from_name": name, "to_name": "left", "type": "choices", "value": {"choices": [choice]}}
              for name, choice in choices.items()]  # fmt: skip
    result.append({"from_name": "confidence", "to_name": "left", "type": "rating", "value": {"rating": 2}})
    result.append({"from_name": "comment", "to_name": "left", "type": "textarea", "value": {"text": ["<b>no</b>"]}})
    return {"id": number, "completed_by": 1, "result": result, "lead_time": 4.5, "was_cancelled": False,
            "created_at": "2026-01-01T00:00:00Z"} | more  # fmt: skip


def test_left_and_right_become_a_and_b_by_the_side_the_task_records():
    tasks = [task_of({"comparison_id": f"q{n}", "candidate_a": "a", "candidate_b": "b"}, str, 0) for n in range(40)]
    assert {task["data"]["left"] for task in tasks} == {"a", "b"}
    for task in tasks:
        assert task["data"]["left_clip"] == task["data"]["left"]
        exported = [task | {"annotations": [annotation({"overall": "left", "expression": "tie"})]}]
        found = {vote["criterion"]: vote for vote in votes_of(exported, "http://s", CRITERIA)}
        assert found["overall"]["choice"] == task["data"]["left"] and found["expression"]["choice"] == "tie"
        assert found["overall"]["confidence"] == 2 and found["overall"]["comment"] == "<b>no</b>"
    skipped = [tasks[0] | {"annotations": [annotation({}, was_cancelled=True)]}]
    assert {vote["choice"] for vote in votes_of(skipped, "http://s", CRITERIA)} == {"skip"}


def test_clips_outside_the_servers_folder_are_refused(tmp_path):
    made = workspace_in(tmp_path / "w")
    with pytest.raises(PrefkitError, match="document-root"):
        push(made, LabelStudio("http://127.0.0.1:1", "t"), document_root=tmp_path / "elsewhere")
    with pytest.raises(PrefkitError, match="cannot reach"):
        push(made, LabelStudio("http://127.0.0.1:1", "t"), document_root=tmp_path)
    with pytest.raises(PrefkitError, match="label-studio push"):
        pull(made, VoteStore.in_workspace(made), LabelStudio("http://127.0.0.1:1", "t"))


@pytest.mark.timeout(900)
def test_a_real_server_takes_a_push_and_gives_each_vote_once(label_studio):
    url, token, root = label_studio
    made = workspace_in(root / "workspace")
    client = LabelStudio(url, token)
    done = push(made, client, document_root=root)
    assert (done.added, done.already_there) == (3, 0)
    assert push(made, client, document_root=root).added == 0
    tasks = client.export(done.project)
    assert {task["data"]["comparison_id"] for task in tasks} == {"q0", "q1", "q2"}
    request = urllib.request.Request(url + tasks[0]["data"]["left_clip"], headers={"Authorization": f"Token {token}"})
    with urllib.request.urlopen(request) as clip:
        assert clip.read(12)[4:8] == b"ftyp"

    said = {"motion_video_alignment": "left", "expression": "tie", "overall": "right"}
    ids = {}
    for task in tasks:
        body = {key: annotation(said)[key] for key in ("result", "lead_time", "was_cancelled")}
        ids[task["id"]] = client._ask("POST", f"/api/tasks/{task['id']}/annotations/", body)["id"]
    store = VoteStore.in_workspace(made)
    first, second = pull(made, store, client), pull(made, store, client)
    assert (first.added, second.added, second.already_here) == (9, 0, 9)
    votes = store.votes()
    assert set(votes["source"]) == {"label-studio"} and votes["annotator"].str.startswith("ls-").all()
    lefts = {task["data"]["comparison_id"]: task["data"]["left"] for task in tasks}
    overall = votes[votes["criterion"] == "overall"]
    assert all(row.choice != lefts[row.comparison_id] for row in overall.itertuples())

    changed = {"result": annotation(said | {"overall": "both_bad"})["result"]}
    client._ask("PATCH", f"/api/annotations/{ids[tasks[0]['id']]}/", changed)
    assert pull(made, store, client).changed == 1 and len(store.votes()) == 9
    assert json.loads((made.root / "label-studio.json").read_text())["project"] == done.project
    store.close()
    shutil.rmtree(made.root)
