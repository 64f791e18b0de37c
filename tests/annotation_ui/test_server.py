import http.client
import io
import json
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from annotation_ui.proxies import playable, proxy_of
from annotation_ui.screenshot import running_server
from annotation_ui.server import serve
from annotation_ui.signing import Signer
from prefkit.errors import PrefkitError
from prefkit.media import count_frames
from prefkit.tables import CRITERIA
from prefkit.votes.accounts import MOST_TRIES, invite, revoke
from prefkit.votes.sides import left_side
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
        with refused:
            return refused.code, refused.read(), refused.headers


def post(url, body, **headers):
    status, answer, _ = ask(url, json.dumps(body).encode(), **({"Content-Type": "application/json"} | headers))
    return status, json.loads(answer)


def session(url, annotator):
    status, answer = post(f"{url}/prefkit/session", {"name": annotator})
    assert status == 200, answer
    return {"Authorization": f"Bearer {answer['session']}"}


def task_of(url, annotator):
    return json.loads(ask(f"{url}/prefkit/task", **session(url, annotator))[1])["tasks"][0]


def vote(url, annotator, sent):
    return post(f"{url}/prefkit/votes", sent, **session(url, annotator))


def ballot(task, annotator, choice="left", first_id=0):
    return {
        "comparison_id": task["comparison_id"],
        "left": task["left"],
        "guidelines_version": "1",
        "votes": [
            {"vote_id": f"{hash(annotator) % 2**60:016x}{first_id + n:016x}", "criterion": name, "choice": choice}
            for n, name in enumerate(CRITERIA)
        ],
    }


def test_clips_are_served_in_ranges_under_signed_addresses_and_never_by_path(url, workspace):
    address = task_of(url, "http-clips")["clips"]["left"]
    path, _, query = address.partition("?")
    whole = workspace.path(f"clips/{path[-3:]}.mp4").read_bytes()
    status, part, headers = ask(url + address, Range="bytes=10-19")
    assert (status, part, headers["Content-Type"]) == (206, whole[10:20], "video/mp4")
    expires = query.partition("&")[0]
    altered = [path, f"{path}?{query[:-1]}{'0' if query[-1] != '0' else '1'}", f"{path[:-3]}c5a?{query}",
               f"{path}?{query.replace(expires, 'expires=99999999999')}", f"{path}?expires=x&signature=é"]  # fmt: skip
    for one in altered:
        assert ask(url + urllib.parse.quote(one, safe="/?&="))[0] == 403, one
    secret = workspace.path("workspace.json").read_bytes()
    for name in ("..%2F..%2Fworkspace.json", "%2Fetc%2Fpasswd", "../workspace.json", "clips/c0a.mp4"):
        # Streamlit answers paths it does not know with its own page.
        assert ask(f"{url}/prefkit/clips/{name}?{query}")[1][:5] not in {secret[:5], whole[:5], b"root:"}


def test_an_address_of_a_clip_expires():
    signer = Signer(b"key")
    expires, signature = (part.partition("=")[2] for part in signer.sign_path("/a", now=0).partition("?")[2].split("&"))
    assert signer.path_is_signed("/a", expires, signature, now=3700)
    assert not signer.path_is_signed("/a", expires, signature, now=7201)
    assert not signer.path_is_signed("/b", expires, signature, now=0)
    token = signer.token("session", {"annotator": "ann"}, seconds=60, now=0)
    assert signer.read("session", token, now=59) and not signer.read("session", token, now=61)
    assert not signer.read("other", token, now=0) and not signer.read("session", "x" + token, now=0)


def test_the_sound_of_a_clip_begins_with_its_first_frame(url):
    status, answer, _ = ask(url + task_of(url, "http-sound")["sounds"]["left"])
    with wave.open(io.BytesIO(answer)) as sound:
        assert status == 200 and abs(sound.getnframes() / sound.getframerate() - 2.0) < 0.03


def test_a_ballot_counts_once_and_only_for_who_was_asked(url, workspace):
    task = task_of(url, "http-ann")
    sent = ballot(task, "http-ann")
    first, again = vote(url, "http-ann", sent), vote(url, "http-ann", sent)
    assert first == again == (200, {"saved": [one["vote_id"] for one in sent["votes"]]})
    progress = json.loads(ask(f"{url}/prefkit/task", **session(url, "http-ann"))[1])["progress"]
    assert progress["done"] == 1
    votes = VoteStore.in_workspace(workspace).votes()
    assert len(votes[votes["annotator"] == "http-ann"]) == len(CRITERIA)
    assert vote(url, "http-ann", ballot(task, "http-ann", choice="right"))[0] == 409
    assert vote(url, "http-ann", ballot(task, "http-ann", first_id=50))[0] == 409
    never_asked = ballot({"comparison_id": "q5", "left": left_side("http-bob", "q5")}, "http-bob")
    status, answer = vote(url, "http-bob", never_asked)
    assert status == 409 and "was not handed" in answer["error"]


def test_nobody_acts_without_a_session_or_in_anothers_name(url, workspace):
    task = task_of(url, "http-carl")
    sent = ballot(task, "http-carl") | {"annotator": "http-carl"}
    assert post(f"{url}/prefkit/votes", sent)[0] == 401
    assert post(f"{url}/prefkit/votes", sent, Authorization="Bearer forged.token")[0] == 401
    assert ask(f"{url}/prefkit/task")[0] == 401
    vote(url, "http-dora", sent)
    votes = VoteStore.in_workspace(workspace).votes()
    assert votes[votes["annotator"] == "http-carl"].empty


def test_bad_messages_are_refused(url):
    votes, mine = f"{url}/prefkit/votes", session(url, "http-bad")
    assert ask(votes, b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert post(votes, {"comment": "x" * 10_000_000}, **mine)[0] == 413
    assert post(votes, ballot(task_of(url, "http-bad"), "http-bad") | {"comment": "x" * 2001}, **mine)[0] == 400
    assert ask(votes, b"no json", **{"Content-Type": "application/json"})[0] == 400
    assert post(votes, [], **mine)[0] == 400
    nobody = session(url, "http-new")
    status, answer = post(f"{url}/prefkit/undo", {"comparison_id": "q0"}, **nobody)
    assert status == 409 and "no vote" in answer["error"]
    assert post(f"{url}/prefkit/undo", {"comparison_id": "../../x"}, **nobody)[0] == 409
    assert post(f"{url}/prefkit/session", {"name": "<b>"})[0] == 400


def test_where_annotators_are_invited_a_link_or_a_password_lets_them_in(workspace):
    store = VoteStore.in_workspace(workspace)
    ann, link = invite(store, "inv-ann", password="a long password")
    with running_server(workspace.root, open_to_all=False) as (url, _):
        assert post(f"{url}/prefkit/session", {"name": ann})[0] == 403
        assert post(f"{url}/prefkit/session", {"link": link + "x"})[0] == 403
        assert post(f"{url}/prefkit/session", {"name": ann, "password": "another password"})[0] == 403
        status, answer = post(f"{url}/prefkit/session", {"name": ann, "password": "a long password"})
        assert (status, answer["annotator"], answer["role"]) == (200, ann, "annotator")
        mine = {"Authorization": f"Bearer {answer['session']}"}
        assert ask(f"{url}/prefkit/task", **mine)[0] == 200
        assert b"not valid" in ask(f"{url}/prefkit/enter/wrong")[1]
        assert b"&lt;b&gt;" in ask(f"{url}/prefkit/login", b"name=%3Cb%3E&password=x")[1]
        request = urllib.request.Request(f"{url}/prefkit/enter/{link}")
        opener = urllib.request.build_opener(NoRedirect)
        with pytest.raises(urllib.error.HTTPError) as answered:
            opener.open(request)
        assert answered.value.code == 303 and "HttpOnly" in answered.value.headers["Set-Cookie"]
        answered.value.close()
        for _ in range(MOST_TRIES):
            assert post(f"{url}/prefkit/session", {"name": ann, "password": "guessed again"})[0] == 403
        status, answer = post(f"{url}/prefkit/session", {"name": ann, "password": "a long password"})
        assert status == 403 and "too many wrong passwords" in answer["error"]
        typed = urllib.parse.urlencode({"name": ann, "password": "a long password"}).encode()
        status, shown, _ = ask(f"{url}/prefkit/login", typed)
        assert status == 403 and b"too many wrong passwords" in shown
        # A new link ends the old one, and who is revoked is out at once.
        _, newer = invite(store, ann)
        assert post(f"{url}/prefkit/session", {"link": link})[0] == 403
        assert post(f"{url}/prefkit/session", {"link": newer})[0] == 200
        revoke(store, ann)
        assert ask(f"{url}/prefkit/task", **mine)[0] == 401
        assert post(f"{url}/prefkit/session", {"link": newer})[0] == 403
    store.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments):
        return None


def test_a_clip_that_browsers_cannot_play_gets_a_copy_once_and_the_original_stays(tmp_path):
    import av

    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for value in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * value, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    before = source.read_bytes()
    assert not playable(source)
    copy = proxy_of(source, tmp_path / "proxies", "c")
    assert playable(copy) and count_frames(copy) == 10 and source.read_bytes() == before
    made = copy.stat().st_mtime_ns
    assert proxy_of(source, tmp_path / "proxies", "c") == copy and copy.stat().st_mtime_ns == made
    assert proxy_of(copy, tmp_path / "others", "c") == copy


def test_kill_9_in_the_middle_loses_no_acknowledged_ballot(workspace):
    acknowledged, enough = [], threading.Event()

    def annotate(name):
        """Votes until the server is gone."""
        try:
            for number in range(6):
                status, answer = vote(url, name, ballot(task_of(url, name), name, first_id=10 * number))
                assert status == 200
                acknowledged.extend(answer["saved"])
                if len(acknowledged) >= 20 * len(CRITERIA):
                    enough.set()
        except (OSError, http.client.HTTPException):
            return

    with running_server(workspace.root) as (url, process), ThreadPoolExecutor(10) as pool:
        running = [pool.submit(annotate, f"killed-{number}") for number in range(10)]
        assert enough.wait(120)
        process.kill()
        for one in running:
            one.result()
    assert set(acknowledged) <= set(VoteStore.in_workspace(workspace).votes()["vote_id"])


def test_what_cannot_be_served_is_one_sentence(workspace, tmp_path):
    with pytest.raises(PrefkitError, match="no workspace"):
        serve(tmp_path / "none")
    empty = Workspace.create(tmp_path / "empty")
    with pytest.raises(PrefkitError, match="prefkit compare"):
        serve(empty.root)
    assert not (empty.root / FILE_NAME).exists()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PrefkitError, match="choose another"):
        serve(workspace.root, port=taken.getsockname()[1])
