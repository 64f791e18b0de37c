"""Weights by path and by hub address, with a local server in the hub's place."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from prefkit.metrics.syncnet import SyncNet
from prefkit.metrics.weight_files import local_file, weights_hash

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path):
    """Serves someone/syncnet: syncnet_v2.model; yields its address and what was asked of it."""
    torch.save(SyncNet().state_dict(), tmp_path / "syncnet_v2.model")
    content = (tmp_path / "syncnet_v2.model").read_bytes()
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            asked.append(f"{self.command} {self.path}")
            known = self.path.startswith("/someone/syncnet/resolve/main/weights/syncnet_v2.model")
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content)) if known else "0")
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if known and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def prefkit(home, endpoint, *words):
    """The hub's client reads its settings when it is imported, so it gets a process of its own."""
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "COLUMNS": "300", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "prefkit.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | own, timeout=300)


def test_a_hub_address_is_downloaded_once(hub, tmp_path):
    endpoint, asked = hub
    weights = "syncnet=hf://someone/syncnet/weights/syncnet_v2.model"
    without = prefkit(tmp_path / "home", endpoint, "metrics", "list")
    assert without.returncode == 0 and not asked
    for _ in range(2):
        listed = prefkit(tmp_path / "home", endpoint, "metrics", "list", "--weights", weights)
        assert listed.returncode == 0, listed.stderr
    assert sum(line.startswith("GET /someone") for line in asked) == 1, asked

    missing = prefkit(tmp_path / "home", endpoint, "metrics", "list", "--weights", "syncnet=hf://someone/syncnet/no.pt")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1 and "download it by hand and give its path" in missing.stderr


def test_a_path_is_taken_as_it_is_and_a_folder_has_one_hash(tmp_path):
    assert local_file(tmp_path / "a.pt") == tmp_path / "a.pt"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(b"1")
    before = weights_hash(tmp_path / "model")
    (tmp_path / "model" / "b.bin").write_bytes(b"2")
    os.utime(tmp_path / "model", (1, 1))
    assert weights_hash(tmp_path / "model") != before
