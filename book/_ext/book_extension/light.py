"""Pages that load little: no script without need, no style or icon that no page uses."""

import re
import shutil
from pathlib import Path

import imagesize
import tinycss2
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from pygments.formatters import HtmlFormatter
from pygments.token import Name, Punctuation, Whitespace

# A script whose name or text holds the left is loaded where the page holds the right.
NEEDED_FOR = {
    "mathjax": '<(span|div) class="[^"]*math ',
    "MathJax": '<(span|div) class="[^"]*math ',
    "design-tabs": "sd-tab",
    "clipboard": "<pre",
    "copybutton": "<pre",
    "larger.js": "image-reference",
}
VIEWPORT = re.compile(r'<meta[^>]*name="viewport"[^>]*>\s*')
IMAGE = re.compile(r'<img (?![^>]*loading=)([^>]*src="([^"]+)"[^>]*?) ?/?>')


class QuietFormatter(HtmlFormatter):
    """Code without marks for what has the colour of the text anyway: a third of a chapter."""

    PLAIN = {Name, Name.Namespace, Name.Variable, Punctuation, Whitespace}

    def _get_css_classes(self, ttype):
        return "" if ttype in self.PLAIN else super()._get_css_classes(ttype)


def only_needed(app, pagename, templatename, context, doctree):
    """Leave out scripts that the page does not need, and load its images when they come near."""
    body = context.get("body", "")
    if "script_files" in context:
        context["script_files"] = [
            script
            for script in context["script_files"]
            if all(
                part not in f"{script.filename}{script.attributes.get('body', '')}"
                or re.search(needed, body)
                for part, needed in NEEDED_FOR.items()
            )
        ]
    context["metatags"] = VIEWPORT.sub("", context.get("metatags", ""))
    files = {name: path for path, name in app.builder.images.items()}

    def lazy(match):
        size = ""
        path = Path(app.srcdir, files.get(match[2].rpartition("/")[2], "no such file"))
        if path.exists() and "width=" not in match[1]:
            width, height = imagesize.get(path)
            size = f' width="{width}" height="{height}"' if width > 0 else ""
        return f'<img {match[1].rstrip()} loading="lazy" decoding="async"{size} />'

    if body:
        context["body"] = IMAGE.sub(lazy, body)


def whole_again(app):
    """Have static files copied anew, where Sphinx would keep those that a build has cut down."""
    if app.builder.name == "html":
        copy_assets = app.builder.copy_assets

        def copy_anew():
            shutil.rmtree(Path(app.outdir, "_static"), ignore_errors=True)
            copy_assets()

        app.builder.copy_assets = copy_anew


def only_used(app, error):
    """Leave rules for absent classes out of the styles, and absent icons out of their fonts."""
    if error or app.builder.name != "html":
        return
    static = Path(app.outdir, "_static")
    names = set()
    for page in Path(app.outdir).rglob("*.html"):
        for classes in re.findall(r'class="([^"]*)"', page.read_text(encoding="utf-8")):
            names.update(classes.split())
    for script in static.rglob("*.js"):
        if not {"mathjax", "reveal", "vendor"} & set(script.parts):
            names.update(re.findall(r"[\w-]+", script.read_text(encoding="utf-8")))
    for style in static.rglob("*.css"):
        if style.name != "course.css":
            style.write_text(used_rules(style.read_text(encoding="utf-8"), names), encoding="utf-8")
    for style in static.glob("vendor/fontawesome/*/css/all.min.css"):
        small_fonts(style)


def used_rules(css, names):
    """``css`` without the rules for classes that are not among ``names``; licences are kept."""
    rules = tinycss2.parse_stylesheet(css, skip_whitespace=True)
    return "\n".join(filter(None, (_used_rule(rule, names) for rule in rules))) + "\n"


def _used_rule(rule, names):
    if rule.type == "comment":
        return rule.serialize() if "icense" in rule.value else ""
    if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
        inner = used_rules(tinycss2.serialize(rule.content), names).strip()
        return inner and f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
    if rule.type != "qualified-rule":
        return rule.serialize()
    selectors, kept = [[]], []
    for token in rule.prelude:
        if token == ",":
            selectors.append([])
        else:
            selectors[-1].append(token)
    for selector in selectors:
        classes = [
            name.value
            for dot, name in zip(selector, selector[1:], strict=False)
            if dot == "." and name.type == "ident"
        ]
        if all(_known(name, names) for name in classes):
            kept.append(tinycss2.serialize(selector).strip())
    return kept and f"{','.join(kept)}{{{tinycss2.serialize(rule.content)}}}"


def _known(name, names):
    """Whether a class is in use; a script may make bs-tooltip-auto of bs-tooltip and auto."""
    parts = name.split("-")
    return name in names or any("-".join(parts[:n]) in names for n in range(2, len(parts)))


def small_fonts(style):
    """Cut the icons' fonts down to the icons that the style sheet still names."""
    css = style.read_text(encoding="utf-8")
    icons = set(map(ord, re.findall(r'content:\s*"(.)"', css)))
    for path in style.parents[1].glob("webfonts/*.ttf"):
        font = TTFont(path, recalcTimestamp=False)
        subset = Subsetter()
        subset.populate(unicodes=icons)
        subset.subset(font)
        font.save(path)
        path.with_suffix(".woff2").unlink(missing_ok=True)
    style.write_text(re.sub(r'url\([^)]*\.woff2\)\s*format\("woff2"\),', "", css), encoding="utf-8")
    for script in style.parents[1].glob("js/all.min.js"):
        script.unlink()
