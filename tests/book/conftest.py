"""The built book, a server for it, and a browser."""

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import program  # book/tools/browser.py

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "_build" / "html"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


def pages(book):
    """Every page of a built book, as a path relative to it."""
    return sorted(
        path.relative_to(book).as_posix()
        for path in book.rglob("*.html")
        if not path.relative_to(book).parts[0].startswith("_") or "_modules" in path.parts
    )


def pytest_generate_tests(metafunc):
    if "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", pages(BOOK) or ["index.html"])


@pytest.fixture(scope="session")
def book():
    if not (BOOK / "index.html").exists():
        pytest.fail("the book is not built; run `make html`", pytrace=False)
    return BOOK


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/favicon.ico":  # browsers ask for it where a page names no icon
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


def serve(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="session")
def url(book):
    server, address = serve(book)
    yield address
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    found = program()
    if not found:
        message = "no Chromium found: `apt install chromium`, or set CHROMIUM to the program"
        needed = os.environ.get("CI") == "true" or os.environ.get("ATTN_SKIP_NOTHING") == "1"
        (pytest.fail if needed else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()
