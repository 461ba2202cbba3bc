"""The call that makes the module whose weights were found, as text."""

import re

from attn_lib import models
from attn_lib.convert.layer import LAYERS, default_of
from attn_lib.convert.names import STAGE_OF_BLOCK


def layer_call(mechanism, options):
    """The layer with ``options``, those that are not the default."""
    shown = {k: repr(v) for k, v in options.items() if v != default_of(mechanism, k)}
    if mechanism in ("eca", "ema"):
        shown = {"channels": "..."} | shown
    arguments = ", ".join(f"{name}={text}" for name, text in shown.items())
    return f"layers.{LAYERS[mechanism].__name__}({arguments})"


def model_call(function, keywords, found):
    """The function of models with ``keywords`` and the attention ``found`` at each place."""
    shown = {k: repr(v) for k, v in keywords.items() if (k, v) != ("num_classes", 1000)}
    mechanisms = {mechanism for mechanism, _ in found.values()}
    if len(mechanisms) == 1:
        (mechanism,) = mechanisms
        shown["attention"] = repr(mechanism)
        if mechanism == "channel":  # by models' functions, a callable has no options
            shown["attention"] = "layers.ChannelAttention"
        for name in next(iter(found.values()))[1].keys() - {"channels"}:
            text = _by_stage(function, mechanism, name, found)
            if text:
                shown[name] = text
    elif mechanisms:
        shown["attention"] = f"<{' and '.join(sorted(mechanisms))}>"
    arguments = ", ".join(f"{name}={text}" for name, text in shown.items())
    return f"models.{function.__name__}({arguments})"


def _by_stage(function, mechanism, option, found):
    """One value, or a tuple with one a stage, or None where it is the default."""
    stages = {models.resnet: 4, models.mobilenet_v2: 7}.get(function, 3)
    values = [[] for _ in range(stages)]
    for place, (_, options) in found.items():
        values[_stage(place)].append(options[option])
    used = [stage for stage in values if stage]
    if any(len(set(stage)) > 1 for stage in used):
        return "<differs within a stage>"
    if len({stage[0] for stage in used}) == 1:
        return None if used[0][0] == default_of(mechanism, option) else repr(used[0][0])
    return repr(tuple((stage or used[0])[0] for stage in values))


def _stage(place):
    kind, index = re.match(r"(layer|features|inception|attention)[._]?(\d+)", place).groups()
    offset = {"layer": 1, "attention": 0, "inception": 3}
    return int(index) - offset[kind] if kind in offset else STAGE_OF_BLOCK[int(index) - 1]
