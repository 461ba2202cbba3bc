"""What stands around a page's text, and what its makers write wrongly."""

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from attn_lib import __version__


def published(app, config):
    """Where the book is published: GitHub's address for the pages of the repository, if any."""
    repository = config.html_theme_options.get("repository_url", "")
    github = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+)", repository)
    if github and not config.html_baseurl:
        config.html_baseurl = f"https://{github[1].lower()}.github.io/{github[2]}/"
    config.project = config.html_title
    config.ogp_site_url = config.html_baseurl or ""
    config.notfound_urls_prefix = urlsplit(config.html_baseurl or "").path or "/"
    if config.html_baseurl:
        config.ogp_image = f"{config.html_baseurl}_static/screenshot.png"
        config.ogp_image_alt = "A page of the book"
    else:
        config.suppress_warnings.append("sitemap")  # there is none without an address


def released(root):
    """The date of the newest version in CHANGELOG.md."""
    heading = re.search(r"^## \S+ \((.+)\)$", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    return datetime.strptime(heading[1], "%d %B %Y")


def footer(app, pagename, templatename, context, doctree):
    """Put version and date, and a link to what has changed, into the footer of _config.yml."""
    date = released(Path(app.srcdir))
    context["author"] = app.config.author
    context["released"] = f"{date:%Y/%m/%d}"
    text, pathto = context.get("theme_extra_footer"), context["pathto"]
    if text:
        context["theme_extra_footer"] = text.format(
            version=__version__,
            date=f"{date.day} {date:%B %Y}",
            changes=pathto("CHANGELOG"),
            index=pathto("genindex"),
        )


OWN_ADDRESS = re.compile(r'<meta property="og:url"[^>]*>\s*')


def without_address(app, pagename, templatename, context, doctree):
    """Leave out a page's own address while nobody knows it."""
    if not app.config.html_baseurl:
        context["metatags"] = OWN_ADDRESS.sub("", context.get("metatags", ""))


def edit_text(app, pagename, templatename, context, doctree):
    """Have the button for edits open the chapter's text, of which the notebook is made."""

    def mend(buttons):
        for button in buttons:
            mend(button.get("buttons", []))
            if "/edit/" in button.get("url", ""):
                button["url"] = re.sub(
                    r"notebooks/(\w+)\.ipynb", r"book/chapters/\1.md", button["url"]
                )

    mend(context.get("header_buttons", []))


# What the page makers write against WCAG: pattern -> replacement, until they mend it.
FAULTS = {
    # sphinx-book-theme 1.1.4: the arrow that opens a part of the contents has no name
    r'<summary>(?=<span class="toctree-toggle")': '<summary aria-label="Pages of this part">',
    # MyST-NB 1.4, sphinx-book-theme 1.1.4: a label that is not what a reader sees
    r'<summary aria-label="Toggle hidden content">': "<summary>",
    r'(<button class="btn search-button-field[^>]*?) aria-label="Search"': r"\1",
    # Sphinx 7.4: a signature on several lines is a list of definitions without terms
    r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>": lambda m: (
        '<div class="sig-lines">\n'
        + m[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
        + "</div>"
    ),
    # Sphinx 7.4: the list of modules has lists between its entries
    r"</li>\n<ul><li>(?=<a href=\"attn_lib)": "</li>\n<li>",
    r"</ul><li>(?=<a href=\"attn_lib)": "<li>",
    # Sphinx 7.4: the list of modules is laid out as a table without headers
    r'<table class="indextable modindextable">': (
        '<table class="indextable modindextable" role="presentation">'
    ),
    # docutils 0.21: deprecated roles of the bibliography, in a list without entries
    r' role="doc-biblioentry"': "",
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
}


def mend_pages(app, error):
    """Mend what is wrong in every page alike and no template can reach."""
    if error or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        if "_static" not in path.relative_to(app.outdir).parts:
            before = after = path.read_text(encoding="utf-8")
            for pattern, replacement in FAULTS.items():
                after = re.sub(pattern, replacement, after)
            if path.parent.name == "_modules" and path.name == "index.html":
                after = after.replace("</ul></ul>", "</ul>").replace("</ul>\n</ul>", "</ul>")
            if after != before:
                path.write_text(after, encoding="utf-8")
