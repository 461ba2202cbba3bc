"""The course's timer: it times what it is given, in turns, and says what is wrong with the rest."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from attn_lib import layers, plot, profiling  # noqa: E402
from attn_lib.cost import layer_cost  # noqa: E402

NAMES = ("se", "eca", "cbam", "bam", "coordinate")
QUICK = {"rounds": 3, "min_seconds": 1e-4}
X = torch.zeros(2, 8, 6, 6)


class Waits(nn.Module):
    """Does nothing for so many passes over a buffer; a longer wait is a longer time."""

    def __init__(self, passes):
        super().__init__()
        self.passes = passes
        self.called = 0

    def forward(self, x):
        self.called += 1
        for _ in range(self.passes):
            x = x * 1.0
        return x


@pytest.mark.parametrize("training", [False, True])
def test_the_slower_of_two_layers_takes_longer(training):
    x = torch.zeros(64, 64, 16, 16)
    times = profiling.time_layer({"slow": Waits(30), "fast": Waits(1)}, x, training=training)
    assert list(times) == ["slow", "fast"]
    assert times["slow"].median > 3 * times["fast"].median
    assert all(0 < t.low <= t.median <= t.high < 10 for t in times.values())


def test_a_round_repeats_a_short_call():
    often, once = Waits(0), Waits(0)
    profiling.time_layer(often, torch.zeros(1), rounds=2, min_seconds=0.01)
    assert often.called > 100  # of a few microseconds each, on a busy machine some more
    profiling.time_layer(once, torch.zeros(1), rounds=2, min_seconds=1e-9)
    assert once.called < 20


def test_layers_take_turns():
    order = []
    profiling.in_turns({n: lambda n=n: order.append(n) for n in "ab"}, rounds=3, min_seconds=1e-9)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert "".join(turns) == "ababab"  # prepared ab; then ba, ab, ba, ab


def test_a_time_is_the_median_with_its_quartiles():
    assert profiling._summary([4.0, 1.0, 2.0, 3.0, 5.0]) == (3, 2, 4)
    assert profiling._summary([2.0]) == (2, 2, 2)


def test_training_leaves_gradients_and_modes_alone():
    layer = layers.build("se", 8)
    x = X.clone().requires_grad_()
    x.grad = torch.ones_like(x)
    for p in layer.parameters():
        p.grad = torch.full_like(p, 3.0)
    profiling.time_layer(layer, x, training=True, **QUICK)
    profiling.bytes_moved(layer, x, training=True)
    assert torch.equal(x.grad, torch.ones_like(x)) and layer.training
    assert all(torch.equal(p.grad, torch.full_like(p, 3.0)) for p in layer.parameters())


def test_threads_are_set_and_put_back():
    seen, before = [], torch.get_num_threads()
    profiling.time_layer(lambda x: seen.append(torch.get_num_threads()), X, threads=2, **QUICK)
    assert set(seen) == {2} and torch.get_num_threads() == before


def test_on_a_gpu_events_are_what_is_read(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        record = synchronize = lambda self: None

        def elapsed_time(self, end):
            return 4.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = []
    times = profiling.in_turns({"f": lambda: calls.append(1)}, "cuda", rounds=1, min_seconds=0.016)
    assert times["f"] == (0.001, 0.001, 0.001)  # four calls a round
    assert len(calls) == 1 + 1 + 2 * 4


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: profiling.time_layer(3, X), TypeError, "module or a function of x; got int"),
        (lambda: profiling.time_layer(nn.ReLU(), [1]), TypeError, "floating-point .* got list"),
        (lambda: profiling.time_layer(nn.ReLU(), X.int()), TypeError, "got Tensor of torch.int32"),
        (lambda: profiling.time_layer({}, X), ValueError, "nothing to time"),
        (lambda: profiling.time_layer(nn.ReLU(), X, rounds=0), ValueError, "rounds .* got 0"),
        (lambda: profiling.time_layer(nn.ReLU(), X, threads=-1), ValueError, "threads .* got -1"),
        (
            lambda: profiling.time_layer(layers.build("se", 8), X.to("meta")),
            ValueError,
            "x is on meta and SqueezeExcitation on cpu",
        ),
        (
            lambda: profiling.time_layer(lambda x: (x, x), X, training=True),
            TypeError,
            "returns a tensor; got tuple",
        ),
        (lambda: profiling.bytes_moved(nn.ReLU(), 3), TypeError, "x must be a tensor; got int"),
        (
            lambda: profiling.bytes_moved(torch.compile(nn.ReLU()), X),
            TypeError,
            "compiled layer are not seen",
        ),
        (lambda: profiling.roofline("meta"), ValueError, "cpu or cuda; got 'meta'"),
        (lambda: profiling.roofline("cpu", precisions=["int4"]), ValueError, "there are .*float32"),
        (lambda: profiling.roofline("cpu", precisions=["tf32"]), ValueError, "'tf32' on cpu"),
        (lambda: profiling.roofline("cpu", rounds=0), ValueError, "rounds .* got 0"),
        (lambda: profiling.roofline("cpu", rounds=2.5), TypeError, "whole number; got 2.5"),
        (lambda: profiling.time_layer(nn.ReLU(), X, rounds="3"), TypeError, "number; got '3'"),
        (lambda: profiling.roofline("cpu", buffer_bytes=0), ValueError, "buffer_bytes .* got 0"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="sees no GPU"):
        profiling.roofline("cuda")


@pytest.mark.parametrize(
    ("layer", "maps"),
    [
        (lambda x: x * 2, 2),
        (lambda x: x + x.mean(), 3),  # read, read again, written; one number besides
        (lambda x: x.view(-1)[None].transpose(0, 1), 0),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: torch.zeros_like(x), 1),
        (lambda x: x.clone().mul_(2), 4),
        (lambda x: torch.empty_like(x).copy_(x), 2),
        (lambda x: torch.mul(x, 2, out=torch.empty_like(x)), 2),
        (lambda x: x.mean().expand(x.shape) * x, 3),
        (lambda x: torch.split(x, 1), 0),
    ],
)
def test_bytes_moved_counts_what_is_read_and_written(layer, maps):
    x = torch.ones(4, 8, 64, 64)
    assert profiling.bytes_moved(layer, x) == pytest.approx(maps * x.nbytes, abs=100)


def test_bytes_moved_counts_the_backward_pass_too():
    x = torch.ones(4, 8, 64, 64)
    step = profiling.bytes_moved(lambda x: x * 2.0, x, training=True)
    assert step == 4 * x.nbytes
    with_weights = profiling.bytes_moved(nn.Linear(64, 64, bias=False), x, training=True)
    assert with_weights > 6 * x.nbytes  # two products backward, one forward


@pytest.mark.parametrize("name", NAMES)
def test_bytes_moved_agrees_with_the_formulas_of_the_chapters(name):
    layer = layers.build(name, 256).eval()
    x = torch.zeros(8, 256, 28, 28)
    counted, formula = profiling.bytes_moved(layer, x), layer_cost(layer, x.shape).moved_bytes
    # A lower bound, which leaves out smaller tensors: the strips of CA, the narrow maps of BAM.
    assert formula <= counted < (1.15 if name in ("bam", "coordinate") else 1.02) * formula


def test_bytes_moved_needs_no_data():
    layer = layers.build("cbam", 8)
    wanted = profiling.bytes_moved(layer, X, training=True)
    assert profiling.bytes_moved(layer.to("meta"), X.to("meta"), training=True) == wanted > 0


def test_the_roofline_bounds():
    roof = profiling.Roofline("a machine", 1e10, {"float32": 1e11, "bfloat16": 4e11})
    assert roof.bound(1e11, 0) == 1 and roof.bound(1e11, 0, "bfloat16") == 0.25
    assert roof.bound(1, 1e10) == 1
    assert roof.corner() == 10 and roof.corner("bfloat16") == 40
    with pytest.raises(ValueError, match=r"no peak of 'tf32' .* \['float32', 'bfloat16'\]"):
        roof.bound(1, 1, "tf32")


def test_a_measured_roofline_is_above_what_is_measured():
    roof = profiling.roofline("cpu", precisions=("float64", "float32"), rounds=2, threads=1)
    assert set(roof.peak) == {"float64", "float32"} and "cpu" in roof.device
    assert 1e8 < roof.bandwidth < 1e13 and 1e8 < roof.peak["float64"] < 1e14
    n = 512
    a = torch.ones(n, n)
    time = profiling.time_layer(lambda x: x @ x, a, rounds=5, threads=1)
    assert time.median > 0.5 * roof.bound(n**3, 0)


def test_times_are_printed_with_their_spread():
    assert str(profiling.Time(2e-3, 1.5e-3, 2.5e-3)) == "2 ms (1.5 to 2.5)"
    assert str(profiling.Time(2e-5, 1e-5, 3e-5)) == "20 µs (10 to 30)"
    assert str(profiling.Time(2.0, 1.0, 3.0)) == "2 s (1 to 3)"


def test_layers_are_drawn_under_the_roof():
    roof = profiling.Roofline("a machine", 1e10, {"float32": 1e11})
    time = profiling.Time(2.0, 1.0, 4.0)
    fig, ax = plt.subplots()
    plot.roofline(ax, roof, {"SE": (1e9, 1e10, time), "conv": (1e11, 1e9, 1.5)})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["SE", "conv"]
    (dot,) = (line for line in ax.lines if line.get_label() == "SE")
    assert dot.get_xydata().tolist() == [[0.1, 0.5]]
    plt.close(fig)
    with pytest.raises(ValueError, match="no peak of 'tf32'"):
        plot.roofline(plt.figure().add_subplot(), roof, {}, precision="tf32")
    plt.close("all")
