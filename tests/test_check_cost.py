"""Solutions of the exercises on cost, and the mistakes that their checks know."""


def convolution(c_in, c_out, k, h, w, groups):
    return c_out * h * w * k * k * (c_in // groups)


def unit(count, printed):
    decimals = len(printed.partition(".")[2])
    fits = (u for u in (10**6, 2**20) if f"{count / u:.{decimals}f}" == printed)
    return next(fits, None)


def truncated(count, printed):
    scale = 10 ** len(printed.partition(".")[2])
    fits = (u for u in (10**6, 2**20) if int(scale * count / u) == round(scale * float(printed)))
    return next(fits, 2**20)


def roofline(operations, moved, peak, bandwidth):
    return max(operations / peak, moved / bandwidth)


def saved(n, c, h, w, hidden, width):
    return width * (n * c * h * w + 2 * n * c + n * hidden)


SOLUTIONS = {"convolution": convolution, "unit": unit, "roofline": roofline, "saved_by_se": saved}
MISTAKES = [
    ("convolution", lambda a, b, k, h, w, g: b * k * k * a // g, "at every output position"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * k * h * w, "groups are missing"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * k * h * w // g**2, "divide once"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * h * w // g, "k x k taps"),
    ("convolution", lambda *a: 2 * convolution(*a), "a multiply-add counts one"),
    ("convolution", lambda *a: convolution(*a) + 1, "off by"),
    ("unit", lambda count, printed: 10**6, "units of 2\\^20; got 1000000"),
    ("unit", lambda count, printed: 2**20, "units of 10\\^6"),
    ("unit", lambda c, p: 10**6 if f"{c / 1e6:.2f}" == p else 2**20, "as are printed"),
    ("unit", lambda c, p: unit(c, p) or 2**20, "neither unit"),
    ("unit", truncated, "got 1048576. Round"),
    ("roofline", lambda o, m, p, b: min(o / p, m / b), "shorter"),
    ("roofline", lambda o, m, p, b: o / p + m / b, "added"),
    ("roofline", lambda o, m, p, b: o / max(o / p, m / b), "rate"),
    ("roofline", lambda o, m, p, b: m / o, "turned round"),
    ("roofline", lambda o, m, p, b: o / p, "shorter|off by"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, 1), "width bytes"),
    ("saved_by_se", lambda n, c, h, w, d, b: b * (2 * n * c + n * d), "x is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, b) + b * n * c * h * w, "y is"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, b) - b * n * c, "z is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, 0, b), "bottleneck is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, 2 * d, b), "before and after"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(1, c, h, w, d, b), "one image"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, 4), "float64|off by"),
]
