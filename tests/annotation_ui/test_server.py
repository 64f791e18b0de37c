import io
import json
import socket
import urllib.error
import urllib.request
import wave

import pytest

from annotation_ui.screenshot import running_server
from annotation_ui.server import serve
from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA
from prefkit.votes.store import FILE_NAME, VoteStore
from prefkit.workspace import Workspace


@pytest.fixture(scope="module")
def url(workspace):
    with running_server(workspace.root) as (address, _):
        yield address


def ask(url, data=None, **headers):
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(), refused.headers


def post(url, body, **headers):
    status, answer, _ = ask(url, json.dumps(body).encode(), **({"Content-Type": "application/json"} | headers))
    return status, json.loads(answer)


def task_of(url, annotator):
    return json.loads(ask(f"{url}/prefkit/task?annotator={annotator}")[1])["task"]


def ballot(task, annotator, choice="left", first_id=0):
    return {
        "annotator": annotator,
        "comparison_id": task["comparison_id"],
        "left": task["left"],
        "guidelines_version": "1",
        "votes": [
            {"vote_id": f"{hash(annotator) % 2**60:016x}{first_id + n:016x}", "criterion": name, "choice": choice}
            for n, name in enumerate(CRITERIA)
        ],
    }


def test_clips_are_served_in_ranges_by_id_and_never_by_path(url, workspace):
    whole = workspace.path("clips/c0a.mp4").read_bytes()
    status, part, headers = ask(f"{url}/prefkit/clips/c0a", Range="bytes=10-19")
    assert (status, part, headers["Content-Type"]) == (206, whole[10:20], "video/mp4")
    assert ask(f"{url}/prefkit/clips/nobody")[0] == 404
    secret = workspace.path("workspace.json").read_bytes()
    for path in ("..%2F..%2Fworkspace.json", "%2Fetc%2Fpasswd", "../workspace.json", "clips/c0a.mp4"):
        # Streamlit answers paths it does not know with its own page.
        assert ask(f"{url}/prefkit/clips/{path}")[1][:5] not in {secret[:5], whole[:5], b"root:"}


def test_the_sound_of_a_clip_begins_with_its_first_frame(url):
    status, answer, _ = ask(f"{url}/prefkit/sounds/c0a")
    with wave.open(io.BytesIO(answer)) as sound:
        assert status == 200 and abs(sound.getnframes() / sound.getframerate() - 2.0) < 0.03


def test_a_ballot_counts_once_and_only_for_who_was_asked(url, workspace):
    task = task_of(url, "http-ann")
    sent = ballot(task, "http-ann")
    first, again = post(f"{url}/prefkit/votes", sent), post(f"{url}/prefkit/votes", sent)
    assert first[0] == again[0] == 200 and first[1]["progress"]["done"] == again[1]["progress"]["done"] == 1
    votes = VoteStore.in_workspace(workspace).votes()
    assert len(votes[votes["annotator"] == "http-ann"]) == len(CRITERIA)
    changed = ballot(task, "http-ann", choice="right")
    assert post(f"{url}/prefkit/votes", changed)[0] == 409
    assert post(f"{url}/prefkit/votes", ballot(task, "http-ann", first_id=50))[0] == 409
    other = ballot(task, "http-bob") | {"left": task_of(url, "http-eve")["left"]}
    assert post(f"{url}/prefkit/votes", other)[0] in {400, 409}


def test_bad_messages_are_refused(url):
    votes = f"{url}/prefkit/votes"
    assert ask(votes, b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert post(votes, {"comment": "x" * 10_000_000})[0] == 413
    assert ask(votes, b"no json", **{"Content-Type": "application/json"})[0] == 400
    assert post(votes, [])[0] == 400
    status, answer = post(f"{url}/prefkit/undo", {"annotator": "http-new", "comparison_id": "q0"})
    assert status == 409 and "no vote" in answer["error"]
    assert ask(f"{url}/prefkit/task?annotator=%3Cb%3E")[0] == 400


def test_kill_9_loses_no_acknowledged_ballot(workspace):
    with running_server(workspace.root) as (url, process):
        status, answer = post(f"{url}/prefkit/votes", ballot(task_of(url, "killed"), "killed"))
        process.kill()
    assert status == 200
    assert set(answer["saved"]) <= set(VoteStore.in_workspace(workspace).votes()["vote_id"])


def test_what_cannot_be_served_is_one_sentence(workspace, tmp_path):
    with pytest.raises(PrefkitError, match="no workspace"):
        serve(tmp_path / "none")
    empty = Workspace.create(tmp_path / "empty")
    with pytest.raises(PrefkitError, match="prefkit compare"):
        serve(empty.root)
    assert not (empty.root / FILE_NAME).exists()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PrefkitError, match="choose another"):
        serve(workspace.root, port=taken.getsockname()[1])
