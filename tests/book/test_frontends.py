"""A notebook in JupyterLab 4 and in Notebook 7, opened, run and looked at in a browser.

In Colab and in VS Code no browser of ours can run one; what they read of a notebook is checked in
its file.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT
from playwright.sync_api import TimeoutError

CHAPTER = "gating"  # the shortest; what is looked at is written by the same functions everywhere
FRONTENDS = {"lab": ("LabApp", "lab/tree"), "notebook": ("JupyterNotebookApp", "notebooks")}
# All cells in the page, also those that are far from the window.
SETTINGS = {"windowingMode": "none"}
RUN = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
CELLS = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel?.content?.model ? [...panel.content.model.cells] : [];
  return cells.filter((cell) => cell.type === 'code').map((cell) => cell.sharedModel.toJSON());
}"""
STORED = nbformat.read(ROOT / "notebooks" / f"{CHAPTER}.ipynb", as_version=4)
CODE = [cell for cell in STORED.cells if cell.cell_type == "code"]


@pytest.fixture(params=FRONTENDS)
def page(request, browser, tmp_path):
    """The notebook, without its outputs, open in a server of one of the two."""
    app, path = FRONTENDS[request.param]
    blank = nbformat.from_dict(json.loads(nbformat.writes(STORED)))
    for cell in blank.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(blank, tmp_path / f"{CHAPTER}.ipynb")
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(SETTINGS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", request.param, "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", f"--ServerApp.root_dir={tmp_path}"]
    command += ["--ServerApp.token=", "--ServerApp.disable_check_xsrf=True"]
    command += ["--ServerApp.ip=127.0.0.1", f"--{app}.expose_app_in_browser=True"]
    folders = {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    folders |= {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path)}
    log = (tmp_path / "server.log").open("w")
    server = subprocess.Popen(command, env=os.environ | folders, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, tmp_path / "server.log")
        window = browser.new_page(viewport={"width": 1366, "height": 900})
        window.goto(f"http://127.0.0.1:{port}/{path}/{CHAPTER}.ipynb")
        window.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        yield window
        window.close()
    finally:
        server.terminate()
        server.wait(30)
        log.close()
        shutil.rmtree(tmp_path, ignore_errors=True)


def wait_for(address, server, log):
    for _ in range(120):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            return urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server does not answer: {log.read_text()[-2000:]}")


IDLE = (
    "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    " === 'idle'"
)
END_SESSIONS = """async () => {
  for (const session of await (await fetch('/api/sessions')).json())
    await fetch('/api/sessions/' + session.id, {method: 'DELETE'});
}"""


def run_all(page):
    """Run all cells; in a new page with a new kernel, if a message between the two was lost."""
    done = f"() => ({CELLS})().every((cell) => cell.execution_count)"
    page.on("dialog", lambda dialog: dialog.accept())  # leave a page that is not saved
    for _ in range(3):
        page.wait_for_function(IDLE, timeout=60_000)
        page.evaluate(f"() => void {RUN}")  # the promise itself may never be kept
        try:
            return page.wait_for_function(done, timeout=60_000)
        except TimeoutError:
            page.evaluate(END_SESSIONS)
            page.reload()
            page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    pytest.fail("the cells were run three times, and some of them have no number after a minute")


@pytest.mark.slow
def test_a_notebook_runs_and_shows_its_figures(page):
    run_all(page)
    cells = page.evaluate(CELLS)
    assert [cell["source"] for cell in cells] == [cell.source for cell in CODE]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    # figures, each with the text that says what it shows
    texts = [
        o.metadata["image/png"]["alt"]
        for c in CODE
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    pictures = page.locator(".jp-OutputArea-output img")
    assert pictures.count() == len(texts) > 2
    words = page.locator(".jp-OutputArea-output details.figure-text")
    assert [text.inner_text() for text in words.all()] == ["The figure in words"] * len(texts)
    for text, alt in zip(words.all(), texts, strict=True):
        text.locator("summary").click()
        assert text.inner_text().endswith(alt)
    # what the book folds is folded
    folded = [cell for cell in CODE if cell.metadata.get("cellView") == "form"]
    assert page.locator(".jp-CodeCell .jp-InputPlaceholder").count() == len(folded) > 2


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_what_colab_and_vs_code_read_of_the_file(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert (nb.nbformat, nb.nbformat_minor) == (4, 5)  # VS Code keeps the ids of 4.5
    assert nb.metadata.kernelspec.name == "python3" and nb.metadata.language_info.name == "python"
    assert nb.metadata.get("accelerator") in (None, "GPU")
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == len(ids)
    for cell in nb.cells:
        hidden = cell.metadata.get("cellView") == "form"
        assert hidden == bool({"hide-input", "remove-cell"} & set(cell.metadata.get("tags", [])))
        assert not hidden or cell.source.startswith("# @title ")
        for output in cell.get("outputs", []):
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
