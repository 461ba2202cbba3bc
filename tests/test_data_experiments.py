"""Results of the experiments: from the checkout, or from the repository."""

import email.message
import functools
import http.server
import os
import threading
from importlib.metadata import PackageNotFoundError

import pytest

from attn_lib import data
from attn_lib.data import experiments

NAME = "cifar10/results/runs.jsonl"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """attn_lib outside a checkout; a server on this machine in the place of the repository."""
    folder = tmp_path / "repository" / "cifar10" / "results"
    folder.mkdir(parents=True)
    (folder / "runs.jsonl").write_text("a result\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "repository")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(experiments, "_CHECKOUT", tmp_path / "site-packages" / "experiments")
    monkeypatch.setattr(
        experiments, "_address", lambda name: f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setenv("ATTN_LIB_DATA", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_in_a_checkout():
    assert data.measured(NAME).read_text().startswith('{"variant"')
    with pytest.raises(FileNotFoundError, match="no experiment has stored 'cifar10/nothing.txt'"):
        data.measured("cifar10/nothing.txt")


def test_in_a_wheel(elsewhere, tmp_path, monkeypatch):
    elsewhere.shutdown()
    elsewhere.server_close()
    path = tmp_path / "measured" / NAME
    path.parent.mkdir(parents=True)
    path.write_text("a result\n")
    monkeypatch.setattr(experiments, "_WHEEL", tmp_path / "measured")
    assert data.measured(NAME) == path


@pytest.mark.parametrize("urls", [None, ["Homepage, https://example.org"]])
def test_without_an_address_the_file_is_named(tmp_path, monkeypatch, urls):
    monkeypatch.setattr(experiments, "_CHECKOUT", tmp_path / "experiments")
    message = email.message.Message()
    for url in urls or []:
        message["Project-URL"] = url
    monkeypatch.setattr(experiments, "metadata", lambda name: message)
    with pytest.raises(FileNotFoundError, match="'a/b.json' is not in .* `make wheel`"):
        data.measured("a/b.json")


def test_not_installed_at_all(tmp_path, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(experiments, "_CHECKOUT", tmp_path / "experiments")
    monkeypatch.setattr(experiments, "metadata", missing)
    with pytest.raises(FileNotFoundError, match="not known"):
        data.measured("a/b.json")


def test_the_address_is_the_package_s(monkeypatch):
    message = email.message.Message()
    message["Project-URL"] = "Repository, https://github.com/someone/course"
    monkeypatch.setattr(experiments, "metadata", lambda name: message)
    address = "https://raw.githubusercontent.com/someone/course/main/experiments"
    assert experiments._address("x") == address


def test_fetched_once(elsewhere, tmp_path, capfd):
    path = data.measured(NAME)
    assert path == tmp_path / "cache" / "experiments" / NAME
    assert path.read_text() == "a result\n"
    elsewhere.shutdown()
    elsewhere.server_close()
    assert data.measured(NAME) == path
    assert capfd.readouterr() == ("", "")


def test_fetched_again_after_a_day(elsewhere, tmp_path):
    path = data.measured(NAME)
    source = tmp_path / "repository" / NAME
    source.write_text("more results\n")
    assert data.measured(NAME).read_text() == "a result\n"
    os.utime(path, (0, 0))
    assert data.measured(NAME).read_text() == "more results\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["runs.jsonl"]
    os.utime(path, (0, 0))
    elsewhere.shutdown()
    elsewhere.server_close()
    assert data.measured(NAME).read_text() == "more results\n"  # better than none


def test_not_to_be_had(elsewhere, tmp_path):
    with pytest.raises(FileNotFoundError, match="no experiment has stored 'cifar10/nothing.txt'"):
        data.measured("cifar10/nothing.txt")
    elsewhere.shutdown()
    elsewhere.server_close()
    with pytest.raises(ConnectionError, match="could not be fetched .* checkout"):
        data.measured(NAME)
    assert not list((tmp_path / "cache").rglob("*.*"))
