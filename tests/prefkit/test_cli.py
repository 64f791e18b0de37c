"""The command line: a user's mistake is one sentence, exit code 2, and a workspace that is as it was."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import prefkit.cli
from prefkit.errors import PrefkitError
from prefkit.media import write_clip


def run(*arguments):
    """What `prefkit …` prints to stderr, and its exit code, without the cost of a process."""
    result = CliRunner().invoke(prefkit.cli.app, [str(argument) for argument in arguments])
    if isinstance(result.exception, PrefkitError):
        return 2, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def fingerprint(folder: Path):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def workspace(tmp_path):
    """A workspace with two clips of one imported condition."""
    clips = tmp_path / "source"
    rng = np.random.default_rng(0)
    speech = rng.integers(-3000, 3000, 16_000).astype(np.int16)
    for name in ("one", "two"):
        write_clip(clips / f"{name}.mp4", rng.integers(0, 255, (10, 32, 32, 3), np.uint8), 10, speech)
    root = tmp_path / "w"
    assert run("init", root)[0] == 0
    assert run("import", root, clips)[0] == 0
    return root


MISTAKES = {
    "no workspace": (["score", "{tmp}/nowhere"], "is no workspace"),
    "sample without what it needs": (["sample", "{w}", "--split", "trian"], "no condition is of the split 'trian'"),
    "unknown metric": (["score", "{w}", "--metric", "fliker"], "did you mean 'flicker'"),
    "unknown weights": (["score", "{w}", "--weights", "syncnet"], "expected NAME=PATH"),
    "unknown strategy": (["compare", "{w}", "--strategy", "randon"], "did you mean 'random'"),
    "import nothing": (["import", "{w}", "{tmp}/missing"], "missing"),
    "no votes to count": (["votes", "stats", "{w}"], "prefkit annotate"),
    "no votes to export": (["votes", "export", "{w}", "{tmp}/votes.csv"], "prefkit annotate"),
    "no votes to build on": (["build-pairs", "{w}"], "votes"),
    "no pairs to train on": (["train-dpo", "{w}"], "prefkit build-pairs"),
    "unknown training option": (["train-dpo", "{w}", "--set", "betta=1"], "did you mean 'beta'"),
    "unknown loss": (["train-dpo", "{w}", "--set", "loss_type=sigmiod"], "did you mean 'sigmoid'"),
    "no run to evaluate": (["evaluate", "{w}"], "no finished run 'dpo'"),
    "no evaluation to report": (["report", "{w}"], "prefkit evaluate"),
    "nothing to annotate": (["annotate", "{w}"], "prefkit compare"),
    "nothing to simulate": (["annotate", "{w}", "--simulate"], "prefkit compare"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_changes_nothing(workspace, tmp_path, name):
    arguments, expected = MISTAKES[name]
    before = fingerprint(workspace)
    code, said = run(*(argument.format(w=workspace, tmp=tmp_path) for argument in arguments))
    assert code == 2
    assert expected in said
    assert "\n" not in said.strip()
    assert fingerprint(workspace) == before


@pytest.mark.parametrize("command", ["init", "demo"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--seed", "99"], "the seed of the portraits is 99; expected 0 to 98"), ([], "exists and is no workspace")],
    ids=["seed", "a file in its place"],
)
def test_what_cannot_be_made_leaves_nothing_behind(tmp_path, command, options, expected):
    target = tmp_path / "new"
    if not options:
        target.write_text("a letter")
    synthetic = ["--synthetic", 1] if command == "init" else []
    code, said = run(command, target, *synthetic, *options)
    assert code == 2 and expected in said
    assert target.read_text() == "a letter" if target.exists() else not options == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"pytorch_lora_weights.safetensors": "no weights"}, "weights.safetensors cannot be read"),
        ({"pytorch_lora_weights.safetensors": "", "adapter.json": "{"}, "adapter.json cannot be read"),
        ({}, "holds no adapter"),
    ],
    ids=["weights", "what it says of itself", "nothing there"],
)
def test_a_damaged_run_is_not_evaluated(workspace, damage, expected):
    adapter = workspace / "runs/dpo/adapter"
    adapter.mkdir(parents=True)
    for name, content in damage.items():
        (adapter / name).write_text(content)
    before = fingerprint(workspace)
    code, said = run("evaluate", workspace)
    assert code == 2 and expected in said
    assert fingerprint(workspace) == before


@pytest.mark.parametrize("content", [b"", b"not a video at all"], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_not_imported(workspace, tmp_path, content):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "clip.mp4").write_bytes(content)
    before = fingerprint(workspace)
    code, said = run("import", workspace, bad)
    assert code == 2 and "clip.mp4" in said
    assert fingerprint(workspace) == before


def test_a_clip_without_sound_is_not_imported(workspace, tmp_path):
    write_clip(tmp_path / "mute" / "clip.mp4", np.zeros((10, 32, 32, 3), np.uint8), 10)
    before = fingerprint(workspace)
    code, said = run("import", workspace, tmp_path / "mute")
    assert code == 2 and "sound" in said
    assert fingerprint(workspace) == before


@pytest.mark.parametrize("command", ["sample", "score", "compare", "annotate", "build-pairs", "train-dpo", "report"])
def test_a_workspace_of_a_newer_version_is_left_alone(workspace, command):
    (workspace / "workspace.json").write_text(json.dumps({"format": 99}))
    before = fingerprint(workspace)
    code, said = run(command, workspace)
    assert code == 2 and "format 99" in said and "upgrade prefkit" in said
    assert fingerprint(workspace) == before


def test_a_folder_of_other_files_does_not_become_a_workspace(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    code, said = run("init", tmp_path)
    assert code == 2 and "is no workspace" in said
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_process_itself_exits_with_2_and_without_a_traceback(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", "from prefkit.cli import main; main()", "score", str(tmp_path / "no where")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.startswith("error: ") and "Traceback" not in found.stderr


def test_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['prefkit', '--help']\n"
        "from prefkit.cli import main\nmain()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0
    assert "build-pairs" in found.stdout


def test_the_readme_names_every_command_and_no_other():
    import re

    readme = Path(__file__).parents[2] / "README.md"
    named = set(re.findall(r"^\| `prefkit ([a-z-]+)`", readme.read_text(), flags=re.MULTILINE))
    commands = {command.name or command.callback.__name__ for command in prefkit.cli.app.registered_commands}
    commands |= {group.name for group in prefkit.cli.app.registered_groups}
    assert named == commands - {"demo", "metrics"}


def test_the_loop_in_the_readme_parses():
    """Every command line there has options that exist."""
    import re
    import shlex

    import click
    import typer

    readme = Path(__file__).parents[2] / "README.md"
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", readme.read_text(), flags=re.DOTALL))
    lines = re.findall(r"^prefkit (.+?)(?:\s+#.*)?$", blocks, flags=re.MULTILINE)
    assert len(lines) > 12
    group = typer.main.get_command(prefkit.cli.app)
    for line in lines:
        words = shlex.split(line)
        context = click.Context(group)
        name, command, rest = group.resolve_command(context, words)
        while isinstance(command, click.Group):
            name, command, rest = command.resolve_command(click.Context(command), rest)
        command.make_context(name, rest, resilient_parsing=False)
