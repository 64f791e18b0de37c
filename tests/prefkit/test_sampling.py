"""Sampling by several processes, as accelerate launches them."""

import os
import shutil
import subprocess
import sys

import pytest

from prefkit.media import sha256_file
from prefkit.synthetic.conditions import add_portraits
from prefkit.tables import CANDIDATES
from prefkit.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    made = Workspace.create(tmp_path / "one")
    add_portraits(made, {"train": 3})
    return made


def sample(root, *launcher):
    command = [sys.executable, *launcher, "-m", "prefkit.cli", "sample", str(root)]
    options = ["--per-condition", "2", "--batch-size", "2", "--steps", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_make_exactly_the_rows_of_one(workspace, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(workspace.root, two)
    one_says = sample(workspace.root)
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip
    two_say = sample(two, *launch)
    other = Workspace.open(two)
    rows = workspace.rows(CANDIDATES)
    assert len(rows) == 6 and rows == other.rows(CANDIDATES)
    assert all(sha256_file(other.path(row["clip"])) == row["sha256"] for row in rows)
    assert two_say.count("candidates: made 6") == one_says.count("candidates: made 6") == 1
