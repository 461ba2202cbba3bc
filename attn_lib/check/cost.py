"""Checks of the exercises on what attention costs."""

from attn_lib import layers
from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.cost import layer_cost

__all__ = ["convolution", "roofline", "saved_by_se", "unit"]


@exercise
def convolution(attempt):
    """``attempt(c_in, c_out, k, h_out, w_out, groups)``: multiply-adds of a k x k convolution."""
    c_in, c_out, k, h, w, groups = 12, 24, 3, 7, 5, 4
    wanted = c_out * h * w * k * k * c_in // groups
    expect(
        call(attempt, c_in, c_out, k, h, w, groups),
        wanted,
        "the number of multiply-adds",
        {
            "that is the number of weights; each is used once at every output position": (
                wanted // (h * w)
            ),
            "the groups are missing: an output channel sees c_in / groups channels": (
                wanted * groups
            ),
            "the groups divide once: an output channel sees c_in / groups channels, and there "
            "are c_out output channels in all": wanted // groups,
            "the kernel has k x k taps, not k": wanted // k,
            "that is operations; a multiply-add counts one": 2 * wanted,
        },
    )
    expect(call(attempt, 32, 32, 3, 4, 4, 32), 32 * 16 * 9, "the number for a depthwise one")


@exercise
def unit(attempt):
    """``attempt(count, printed)``: the unit, 10**6 or 2**20, in which count prints so, or None."""
    cases = {
        (25_557_032, "25.56"): 10**6,
        (25_557_032, "24.37"): 2**20,
        (28_071_976, "26.77"): 2**20,
        (11_689_512, "11.148"): 2**20,
        (3_504_872, "3.5"): 10**6,
        (3_504_960, "3.34"): 2**20,
    }
    for (count, printed), wanted in cases.items():
        got = call(attempt, count, printed)
        if got != wanted:
            raise Failed(
                f"{count:,} printed as {printed} is in units of "
                f"{'10^6' if wanted == 10**6 else '2^20'}; got {got!r}. Round to as many decimals "
                "as are printed"
            )
    try:
        wrong = attempt(25_557_032, "26.77")
    except Exception as error:
        raise Failed(f"where neither unit fits, return None; got {error!r}") from None
    if wrong is not None:
        raise Failed(f"25,557,032 is 26.77 in neither unit: return None; got {wrong!r}")


@exercise
def roofline(attempt):
    """``attempt(operations, bytes_moved, peak, bandwidth)``: the least seconds it can take."""
    memory_bound, compute_bound = (6e6, 36e6, 50e9, 10e9), (9e9, 12e6, 50e9, 10e9)
    for case in (memory_bound, compute_bound):
        operations, moved, peak, bandwidth = case
        times = operations / peak, moved / bandwidth
        expect(
            call(attempt, *case),
            max(times),
            "the time",
            {
                "that is the shorter of the two times; both have to be over": min(times),
                "the two times are added; the roofline lets them overlap": sum(times),
                "that is the rate in operations a second; the time is asked for": (
                    operations / max(times)
                ),
                "the intensity is turned round: operations a byte": moved / operations,
            },
            tolerance=1e-9,
        )


@exercise
def saved_by_se(attempt):
    """``attempt(n, c, h, w, hidden, width)``: bytes that an SE layer keeps for backward."""
    n, c, h, w, reduction = 3, 32, 5, 7, 4
    hidden = c // reduction
    x = n * c * h * w
    wanted = layer_cost(layers.SqueezeExcitation(c, reduction), (n, c, h, w)).saved_bytes
    expect(
        call(attempt, n, c, h, w, hidden, 4),
        wanted,
        "the number of bytes",
        {
            "that counts numbers; each has width bytes": wanted / 4,
            "x is missing: the gate's gradient is the sum of dy times x": wanted - 4 * x,
            "y is not kept: no gradient needs it": wanted + 4 * x,
            "z is missing: the gradient of W1 needs it": wanted - 4 * n * c,
            "the bottleneck is missing: the gradient of W2 needs h": wanted - 4 * n * hidden,
            "before and after the ReLU are one tensor kept: its output says where it was at rest": (
                wanted + 4 * n * hidden
            ),
            "that is for one image; there are n": wanted / n,
        },
        tolerance=1e-9,
    )
    double = layer_cost(layers.SqueezeExcitation(c, reduction).double(), (n, c, h, w)).saved_bytes
    expect(call(attempt, n, c, h, w, hidden, 8), double, "the number in float64", tolerance=1e-9)
