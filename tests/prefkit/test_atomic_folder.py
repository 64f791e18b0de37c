"""A folder changes in one step."""

import pytest

from prefkit import workspace
from prefkit.workspace import atomic_folder


@pytest.mark.parametrize("in_one_step", [True, False], ids=["exchanged", "two renames"])
def test_the_new_folder_replaces_the_old_one_and_leaves_nothing(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(workspace, "_exchange", lambda first, second: False)
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "set") as temporary:
            (temporary / "file").write_text(text)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "set") as temporary:
        (temporary / "file").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set" / "file").read_text() == "new"
