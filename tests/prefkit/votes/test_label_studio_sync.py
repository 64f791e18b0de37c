"""`prefkit label-studio sync`, as often as wanted, against a stand-in that keeps what it is sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from prefkit.cli import app
from prefkit.tables import CANDIDATES, COMPARISONS
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

TOKEN = "0123456789abcdef"


class StandIn(BaseHTTPRequestHandler):
    """The five calls that prefkit makes; `server.kept` is what came, `server.tasks` what is there."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Token {TOKEN}":
            return self.say({}, 401)
        self.server.kept.append((self.path, body))
        if self.path == "/api/projects/7/import":
            self.server.tasks += [task | {"id": len(self.server.tasks) + n, "annotations": []}
                                  for n, task in enumerate(body)]  # fmt: skip
        self.say({"id": 7}, 201)

    def do_GET(self):
        assert self.path == "/api/projects/7/export?exportType=JSON&download_all_tasks=true"
        self.say(self.server.tasks)

    def say(self, what, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    running.kept, running.tasks = [], []
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def add(workspace, name):
    workspace.append(
        CANDIDATES, [{"candidate_id": f"{name}{side}", "clip": f"clips/{name}{side}.mp4"} for side in "ab"]
    )
    workspace.append(COMPARISONS, [{"comparison_id": name, "candidate_a": f"{name}a", "candidate_b": f"{name}b",
                                    "purpose": "train", "target_votes": 2}])  # fmt: skip


def test_sync_brings_what_is_new_there_and_what_is_answered_here(server, tmp_path):
    made = Workspace.create(tmp_path / "w")
    (made.root / "annotation.toml").write_text('[[criteria]]\nid = "teeth"\nlabel = "Teeth"\nquestion = "Which?"\n')
    add(made, "q0")

    def run(command, *more):
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = CliRunner().invoke(app, ["label-studio", command, str(made.root), "--url", url, "--token", TOKEN, *more])
        assert done.exit_code == 0, done.output

    run("sync")
    assert [task["data"]["comparison_id"] for task in server.tasks] == ["q0"]
    (project,) = [body for path, body in server.kept if path == "/api/projects"]
    assert '<Choices name="teeth"' in project["label_config"] and "expression" not in project["label_config"]
    assert project["maximum_annotations"] == 2 and server.tasks[0]["data"]["guidelines_version"]

    said = {"from_name": "teeth", "to_name": "left", "type": "choices", "value": {"choices": ["right"]}}
    answer = {"id": 3, "completed_by": 1, "result": [said], "created_at": "2026-01-01T00:00:00Z"}
    server.tasks[0]["annotations"].append(answer)
    add(made, "q1")
    for _ in range(2):
        run("sync")
    assert [task["data"]["comparison_id"] for task in server.tasks] == ["q0", "q1"]
    store = VoteStore.in_workspace(made)
    (vote,) = store.votes().to_dict("records")
    store.close()
    left = server.tasks[0]["data"]["left"]
    assert (vote["criterion"], vote["choice"], vote["left"]) == ("teeth", {"a": "b", "b": "a"}[left], left)
    assert vote["source"] == "label-studio"

    run("push", "--webhook", "http://127.0.0.1:9/answered")
    assert server.kept[-1] == ("/api/webhooks/", {"project": 7, "url": "http://127.0.0.1:9/answered",
                                                  "send_payload": False})  # fmt: skip
