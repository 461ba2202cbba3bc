"""The page whose networks run in the browser: its numbers, its weight, and ways to use it."""

import json
import re

import pytest
import torch
from conftest import ROOT
from test_accessible import MODES, PAIRS, violations
from test_browser import INSPECT

from attn_lib import layers
from attn_lib.data import digits
from experiments.playground import train

STATIC = ROOT / "book/_static/playground"


@pytest.fixture(scope="module")
def models():
    return train.restore()


@pytest.fixture(scope="module")
def started(browser, book):
    """The page from a file, after Start, and what it loaded before and after."""
    page = browser.new_page(viewport={"width": 375, "height": 800})
    errors, loaded = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: loaded.append(request.url))
    page.goto((book / "book/playground.html").as_uri())
    page.wait_for_load_state("networkidle")
    before = [address for address in loaded if "/playground/" in address]
    page.click("#playground-start")
    page.wait_for_selector("#playground-status:has-text('says')")
    yield page, before, loaded
    assert not errors
    page.close()


def test_the_shipped_files_are_those_of_the_checkpoint(models):
    text, results = train.export(models, digits())
    assert results == json.loads((train.HERE / "results.json").read_text())
    shipped, fresh = (
        json.loads(source.split("playgroundData = ")[1].rstrip(";\n"))
        for source in (train.DATA.read_text(), text)
    )
    for name, network in shipped["networks"].items():
        again = fresh["networks"].pop(name)
        assert again["tensors"] == network["tensors"]
        state = {
            key: value
            for key, value in models[name].state_dict().items()
            if "num_batches" not in key
        }
        weights = train.packed(state)["numbers"].rstrip("=")[:-4]
        assert network["numbers"].startswith(weights)  # the gates' means follow
    assert shipped["samples"] == fresh["samples"] and shipped["orders"] == fresh["orders"]


def test_the_page_has_the_measured_accuracies():
    page = (ROOT / "book/playground.md").read_text(encoding="utf-8")
    titles = dict(se="SE", eca="ECA", cbam="CBAM", bam="BAM", coordinate="Coordinate Attention")
    for name, result in json.loads((train.HERE / "results.json").read_text()).items():
        row = [result[key] for key in ("computed", "held", "rows", "places", "image")]
        cells = " | ".join(f"{100 * value:.1f}" for value in row)
        assert f"| {titles[name]} | {cells} |" in page


@torch.no_grad()
def test_the_networks_say_of_a_cup_what_the_page_says(models):
    (cup,) = (p["pixels"] for p in train.photographs() if p["name"] == "a cup")
    x = torch.tensor(cup).reshape(1, 1, 8, 8) / 16
    for name, model in models.items():
        logits, gates = train.outcome(model, x)
        share = logits.softmax(1)[0, 9]
        assert share > 0.99 if name != "coordinate" else round(share.item(), 2) == 0.87
        usual = train.outcome(model, digits().x_test)[1]
        for key, gate in gates.items():
            moved, often = ((g - usual[key].mean(0)).abs().mean() for g in (gate, usual[key]))
            assert moved < (0.015 if name in ("se", "eca") else 1.4 * often)


@torch.no_grad()
def test_a_stroke_reaches_as_far_as_the_page_says(models):
    line = torch.zeros(2, 1, 8, 8)  # an empty image, and one with a line as the brush draws it
    line[1, 0, :, 0], line[1, 0, :, 1] = 1, 0.25
    empty, drawn = train.outcome(models["cbam"], line)[1]["spatial"]
    change = drawn - empty
    assert change[:, :, 5:].abs().max() < 0.03 < change.abs().max()
    assert change[:, :, :4].mean() < 0
    gates = train.outcome(models["coordinate"], line)[1]
    change = {key: gate[1] - gate[0] for key, gate in gates.items()}
    assert change["width"][:, :, 4:].abs().max() < 1e-6
    assert change["height"].abs().amax(0).min() > 0.1


@torch.no_grad()
def test_the_browser_computes_what_pytorch_computes(started, models):
    page = started[0]
    data = digits()
    orders = train.permutations()
    cases = [("own", "computed"), ("rows", "held"), ("places", "rows"), ("own", "places")]
    for name, model in models.items():
        means = {key: g[None] for key, g in train.mean_gates(model, data.x_train).items()}
        for number, (image, gate) in zip((0, 7, 13, 19), cases, strict=True):
            got = page.evaluate(
                """([name, i, image, gate]) => playgroundModel.run(
                    name, playgroundData.samples[i].pixels, image, gate)""",
                [name, number, image, gate],
            )
            x = torch.tensor(train.samples(data)[number]["pixels"]).view(1, 1, 8, 8) / 16
            if image != "own":
                x = train.shuffled(x, orders[image])

            def compute(f, model=model, means=means, gate=gate):
                if gate == "held":
                    return means
                seen = f if gate == "computed" else train.shuffled(f, orders[gate])
                return model.attention.gates(seen)

            logits, gates = train.outcome(model, x, compute)
            # The means are shipped in half precision, all else is exact before the arithmetic.
            if gate == "held":
                gates = {key: g.half().float() for key, g in gates.items()}
                logits, _ = train.outcome(model, x, lambda _, gates=gates: gates)
            else:
                assert torch.allclose(logits, model(x), atol=1e-5) or gate != "computed"
            assert torch.allclose(torch.tensor(got["logits"]), logits[0], rtol=0, atol=1e-4)
            assert got["gates"].keys() == gates.keys()
            for key, values in got["gates"].items():
                ours = torch.tensor(values["values"]).view(values["shape"])
                assert torch.allclose(ours, gates[key][0], rtol=0, atol=1e-4), (name, gate)


def test_the_costs_are_those_of_the_layers(started):
    for C, r, k, s in ((64, 7, 3, 5), (256, 32, 9, 7)):
        made = {
            "SE": layers.SqueezeExcitation(C, r),
            "ECA": layers.EfficientChannelAttention(C, k),
            "CBAM": layers.CBAM(C, r, s),
            "BAM": layers.BAM(C, r),
            "Coordinate Attention": layers.CoordinateAttention(C, r),
        }
        counts = {name: sum(p.numel() for p in m.parameters()) for name, m in made.items()}
        assert started[0].evaluate("playgroundCost", {"C": C, "r": r, "k": k, "s": s}) == counts


def test_little_is_loaded_and_only_when_asked_for(started):
    _, before, loaded = started
    names = {re.sub(".*/", "", address) for address in before}
    assert names == {"playground.js", "playground.css"}
    assert all(address.startswith(("file:", "data:")) for address in loaded)
    size = sum(path.stat().st_size for path in STATIC.rglob("*.js"))
    assert 550_000 < size < 650_000  # "0.6 MB" on the page
    assert train.DATA.stat().st_size / len(train.MECHANISMS) < 400_000


def test_drawing_by_keyboard_and_by_pointer(started):
    page = started[0]
    status = page.locator("#playground-status")
    painted = """() => document.querySelector('#playground-drawing').toDataURL()"""
    page.click("#playground-clear")
    page.wait_for_timeout(350)
    empty = page.evaluate(painted)
    page.focus("#playground-drawing")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#playground-status:has-text('Row 4, column 3: 0 of 16')")
    page.keyboard.press("Space")
    page.wait_for_selector("#playground-status:has-text('says')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#playground-status:has-text('Row 4, column 2: 4 of 16')")
    page.keyboard.press("Delete")
    page.locator("#playground-drawing").scroll_into_view_if_needed()
    box = page.locator("#playground-drawing").bounding_box()
    page.mouse.move(box["x"] + 130, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 130, box["y"] + 200, steps=12)
    page.mouse.up()
    page.locator("#playground-network").focus()
    page.wait_for_timeout(350)
    assert page.evaluate(painted) != empty
    assert "says 1" in status.text_content()


@pytest.mark.parametrize("mode", PAIRS[0])
def test_the_running_page_is_accessible(browser, url, mode):
    context = browser.new_context(**MODES[mode])
    page = context.new_page()
    page.goto(f"{url}/book/playground.html")
    page.click("#playground-start")
    page.wait_for_selector("#playground-status:has-text('says')")
    page.select_option("#playground-network", "eca")
    assert page.locator("#playground-channel").is_visible()
    assert not violations(page)
    assert not page.evaluate(INSPECT)
    context.close()


def test_without_javascript_the_page_says_so(browser, url):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/book/playground.html")
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    assert page.locator("#playground-start").is_hidden()
    context.close()
