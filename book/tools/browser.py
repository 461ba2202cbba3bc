"""The browser that prints and photographs the book."""

import os
import shutil
import sys
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome")


def program():
    """Path of Chromium or Chrome, or None; the variable CHROMIUM goes before."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched():
    """A running browser, or an exit that says what to install."""
    from playwright.sync_api import sync_playwright

    if program() is None:
        sys.exit("this needs Chromium or Chrome (on Debian and Ubuntu: apt install chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield browser
        browser.close()
