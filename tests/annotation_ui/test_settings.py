import dataclasses
import json
import re
from pathlib import Path

import pytest

from annotation_ui.settings import Settings, parse_settings, read_settings
from prefkit.errors import PrefkitError
from prefkit.tables import CRITERIA

PAGE = Path(__file__).parents[2] / "docs" / "annotating.md"


def test_the_page_for_leads_names_every_setting_with_its_default_and_its_example_is_read(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, flags=re.MULTILINE))
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)} | {"criteria": None}
    assert named == {name: f"`{json.dumps(value)}`" for name, value in defaults.items()} | {"criteria": "three, below"}
    assert all(f"`{name}`" in text for name in CRITERIA)
    (example,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "annotation.toml").write_text(example)
    found = read_settings(tmp_path)
    assert [one.id for one in found.criteria] == ["overall", "teeth"] and found.gold_rate == 0.08


def test_the_commands_of_the_page_exist():
    import click
    import typer

    from prefkit.cli import app

    text = PAGE.read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    named = set(re.findall(r"prefkit (votes|label-studio)\s+([a-z]+)", text))
    assert len(named) > 12
    for part, command in named:
        assert group.get_command(click.Context(group), part).get_command(click.Context(group), command), command


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"gold_rat": 0.1}, "gold_rate"),
        ({"gold_rate": 2}, "share from 0 to 1"),
        ({"watch_first": 1}, "something like True"),
        ({"criteria": [{"id": "overall"}]}, "tables of id, label and question"),
        ({"criteria": []}, "names no criterion"),
    ],
)
def test_a_setting_that_will_not_do_is_one_sentence(said, sentence):
    with pytest.raises(PrefkitError, match=sentence):
        parse_settings(said)
