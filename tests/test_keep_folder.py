"""Checkpoints of a notebook: on Google Drive in Colab, beside the notebook elsewhere."""

import sys
import types

import pytest

from attn_lib.train import folder, keep_folder


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A google.colab whose drive.mount is called with the mount point and may refuse."""
    drive = types.SimpleNamespace(mounted=[], refuse=None)

    def mount(where):
        if drive.refuse:
            raise drive.refuse
        drive.mounted.append(where)

    drive.mount = mount
    module = types.ModuleType("google.colab")
    module.drive = drive
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(folder, "_DRIVE", tmp_path / "drive")
    monkeypatch.chdir(tmp_path)
    return drive


def test_in_colab(colab, tmp_path, capsys):
    assert keep_folder("training") == tmp_path / "drive" / "MyDrive" / "training"
    assert (tmp_path / "drive" / "MyDrive" / "training").is_dir()
    assert colab.mounted == [str(tmp_path / "drive")]
    assert keep_folder("training").is_dir()  # a second time
    assert not capsys.readouterr().out


def test_where_drive_is_refused(colab, tmp_path, capsys):
    colab.refuse = ValueError("mount failed")
    assert keep_folder("training").resolve() == tmp_path / "training"
    assert (tmp_path / "training").is_dir()
    said = capsys.readouterr().out
    assert said == "Google Drive is not mounted (mount failed); training/ goes with this runtime.\n"


def test_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert keep_folder("training").resolve() == tmp_path / "training"
    assert (tmp_path / "training").is_dir()
