"""What leaves: metric pairs, releases with clips inside, an upload, Croissant, and a build killed half-way."""

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.parquet as pq
import pytest

from prefkit.errors import PrefkitError
from prefkit.pairs import build_pairs, load_pairs
from prefkit.pairs.metric import build_metric_pairs
from prefkit.pairs.release import embed_clips, push_to_hub
from prefkit.tables import SCORES


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pairs_from_a_metric_say_so_everywhere(small):
    values = {"c0p": 5.0, "c0q": 3.0, "c1p": 1.0, "c1q": 1.2, "c2p": 2.0, "c2q": None, "c3p": 9.0, "c3q": 0.0}
    small.append(
        SCORES,
        [
            {"candidate_id": name, "metric": "sync_c", "metric_version": "1", "value": value}
            for name, value in values.items()
        ],
    )
    summary = build_metric_pairs(small, metric="sync_c", min_margin=0.5)
    assert summary["funnel"] == [
        {"step": "clips", "total": 8, "dropped": {"not scored": 1}, "left": 7},
        {"step": "pairs", "total": 3, "dropped": {"margin below 0.5": 1}, "left": 2},
    ]
    rows = [row for split in load_pairs(summary["path"]).values() for row in split]
    assert {(row["chosen_id"], row["rejected_id"], row["margin"]) for row in rows} == {
        ("c0p", "c0q", 2.0), ("c3p", "c3q", 9.0),
    }  # fmt: skip
    assert {(row["source"], row["criterion"], row["preference"], row["num_votes"]) for row in rows} == {
        ("model", "metric:sync_c", None, 0)
    }
    card = small.path("pairs/README.md").read_text()
    assert "No person voted: 2 of 2 pairs come from a metric's scores" in card and "model-feedback" in card
    assert "human-feedback" not in card and "config_name: votes" not in card
    with pytest.raises(PrefkitError, match="did you mean 'sync_c'"):
        build_metric_pairs(small, metric="sync_cc")
    with pytest.raises(PrefkitError, match="run 'prefkit score --metric flicker' first"):
        build_metric_pairs(small, metric="flicker")


def test_a_release_carries_its_clips(small, cast, tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import DatasetCard

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    summary = build_pairs(small, votes=cast(small, ("a", "b", "a")))
    release = tmp_path / "release"
    assert embed_clips(summary["path"], release)["pairs"] == summary["pairs"]
    assert not list(release.rglob("*.mp4"))
    originals = {name: small.path(f"clips/{name}.mp4").read_bytes() for name in ("c0p", "c0q", "c1p", "c1q")}
    for streaming in (False, True):
        opened = datasets.load_dataset(str(release), "pairs", cache_dir=str(tmp_path / "cache"), streaming=streaming)
        row = next(row for split in opened.values() for row in split if row["chosen_id"] == "c0p")
        assert row["chosen"][:].shape == (5, 3, 16, 16)
        assert row["reference_image"].size == (16, 16)
        raw = opened["train"].cast_column("chosen", datasets.Video(decode=False))
        found = {row["chosen_id"]: row["chosen"]["bytes"] for row in raw}
        assert all(found[name] == originals[name] for name in set(found) & set(originals))
    votes = datasets.load_dataset(str(release), "votes", cache_dir=str(tmp_path / "cache"))["train"]
    assert len(votes) == 12
    card = DatasetCard.load(release / "README.md")
    assert [config["config_name"] for config in card.data.configs] == ["pairs", "votes"]
    assert "This is a release" in card.text and "load_pairs" not in card.text
    with pytest.raises(PrefkitError, match="exists and is no release"):
        embed_clips(summary["path"], small.root)


def test_croissant_is_valid_and_its_records_are_the_rows(small, cast, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    summary = build_pairs(small, votes=cast(small, ("a", "b", "a")))
    embed_clips(summary["path"], tmp_path / "release")
    described = mlcroissant.Dataset(jsonld=small.path("pairs/croissant.json"))
    assert not described.metadata.issues.errors
    records = list(described.records("pairs-table-train"))
    rows = pq.read_table(small.path("pairs/pairs/train.parquet")).to_pylist()
    ids = [record["pairs-table-train/pair_id"].decode() for record in records]
    assert ids == [row["pair_id"] for row in rows]
    assert not mlcroissant.Dataset(jsonld=tmp_path / "release" / "croissant.json").metadata.issues.errors


@contextlib.contextmanager
def hub(root):
    """A stand-in for the Hub's interface: what is committed lies under `root` afterwards."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, content, code=200):
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            seen.append(("GET", self.path))
            if "/tree/" in self.path:
                return self.answer([{"type": "file", "path": "stale.txt", "size": 1, "oid": "0" * 40}])
            self.answer(
                {
                    "id": "me/pairs",
                    "sha": "1" * 40,
                    "private": True,
                    "siblings": [{"rfilename": "stale.txt"}],
                    "tags": [],
                }
            )

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(("POST", self.path, body))
            if self.path == "/api/repos/create":
                return self.answer({"url": f"http://{self.headers['Host']}/datasets/me/pairs", "id": "me/pairs"})
            if "/preupload/" in self.path:
                files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
                return self.answer({"files": files})
            if "/commit/" in self.path:
                for line in body.decode().splitlines():
                    item = json.loads(line)
                    if item["key"] == "file":
                        path = root / item["value"]["path"]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(base64.b64decode(item["value"]["content"]))
                return self.answer(
                    {
                        "commitUrl": f"http://{self.headers['Host']}/datasets/me/pairs/commit/1",
                        "commitOid": "1" * 40,
                        "success": True,
                    }
                )
            self.answer({"errors": [], "warnings": []})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_upload_carries_the_folder_and_is_private_unless_consent_is_recorded(small, cast, tmp_path):
    """Against a local stand-in that speaks the Hub's commit interface, not against the Hub."""
    build_pairs(small, votes=cast(small, ("a", "b", "a")))
    with hub(tmp_path / "uploaded") as (endpoint, seen):
        url = push_to_hub(small.path("pairs"), "me/pairs", token="hf_secret", endpoint=endpoint)
        with pytest.raises(PrefkitError, match="the consent of 4 conditions .* is not recorded"):
            push_to_hub(small.path("pairs"), "me/pairs", token="hf_secret", endpoint=endpoint, private=False)
    assert url == f"{endpoint}/datasets/me/pairs/commit/1"
    assert contents(tmp_path / "uploaded") == contents(small.path("pairs"))
    (made,) = (json.loads(entry[2]) for entry in seen if entry[1] == "/api/repos/create")
    assert made["type"] == "dataset" and made["visibility"] == "private"
    (commit,) = (entry[2].decode() for entry in seen if "/commit/" in entry[1])
    assert '{"key": "deletedFile", "value": {"path": "stale.txt"}}' in commit
    with pytest.raises(PrefkitError, match="was not uploaded"):
        push_to_hub(small.path("pairs"), "me/pairs", token="hf_secret", endpoint=endpoint)  # nobody listens any more


BUILD = """
import sys
import pandas as pd
from prefkit.pairs import build_pairs
from prefkit.workspace import Workspace
print("ready", flush=True)
sys.stdin.readline()
build_pairs(Workspace.open(sys.argv[1]), votes=pd.read_parquet(sys.argv[2]), pick_a_pic=True)
"""


def test_a_killed_build_leaves_the_previous_dataset(make_workspace, cast, tmp_path):
    workspace = make_workspace(tmp_path / "w", (6, 6, 6))
    build_pairs(workspace, votes=cast(workspace, ("a", "a")))
    before = contents(workspace.path("pairs"))
    other = cast(workspace, ("b", "b"))
    other.to_parquet(tmp_path / "votes.parquet")
    for place in ("clips", "pick-a-pic"):  # early, and when all tables are written
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(workspace.root), str(tmp_path / "votes.parquet")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None and not list(workspace.root.glob(f".writing-*/{place}")):
            time.sleep(0.0005)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the build was over before it could be killed"
        process.stdin.close(), process.stdout.close()
        assert contents(workspace.path("pairs")) == before
        for left in workspace.root.glob(".writing-*"):
            shutil.rmtree(left)
    summary = build_pairs(workspace, votes=other)
    rows = [row for split in load_pairs(summary["path"]).values() for row in split]
    assert len(rows) == 45 and all(row["chosen_id"] > row["rejected_id"] for row in rows)


def test_a_dataset_without_votes_columns_of_today_still_loads(small, cast):
    """Older datasets lack margin and frame_weights: null, not an error."""
    build_pairs(small, votes=cast(small, ("a", "a")))
    for path in small.path("pairs/pairs").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["margin", "frame_weights"]), path)
    rows = [row for split in load_pairs(small.path("pairs")).values() for row in split]
    assert {row["margin"] for row in rows} == {None}
