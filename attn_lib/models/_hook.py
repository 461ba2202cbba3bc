"""From ``attention=`` and its options to the module that sits at one place of a backbone."""

from torch import nn

from attn_lib import layers


def attention_factory(attention, options, stages):
    """Function ``(channels, stage) -> nn.Module`` that makes the attention of a backbone.

    Parameters
    ----------
    attention : None, str or callable
        None: ``nn.Identity`` is never made, the factory is None. A name of ``layers.build``, or
        a callable ``channels -> nn.Module``.
    options : dict
        Options of the layer; a tuple holds one value a stage.
    stages : int
        The number of stages of the backbone.

    Raises
    ------
    ValueError
        Options without a named attention, or a tuple whose length is not the number of stages.
    TypeError
        ``attention`` of another kind, such as a module that has been made already.
    """
    if isinstance(attention, nn.Module):
        raise TypeError(
            "attention must be a name or a callable that makes a module for a number of channels, "
            f"since every block needs its own; got the module {type(attention).__name__}"
        )
    if attention is None or (callable(attention) and not isinstance(attention, str)):
        if options:
            raise ValueError(
                f"options {sorted(options)} need attention= to be a name; got {attention!r}"
            )
        return attention and (lambda channels, stage: _module(attention(channels)))
    if not isinstance(attention, str):
        raise TypeError(f"attention must be None, a name or a callable; got {attention!r}")
    for name, value in options.items():
        if isinstance(value, tuple) and len(value) != stages:
            raise ValueError(
                f"{name} as a tuple needs one value for each of the {stages} stages; got {value}"
            )

    def make(channels, stage):
        chosen = {
            name: value[stage] if isinstance(value, tuple) else value
            for name, value in options.items()
        }
        return layers.build(attention, channels, **chosen)

    layers.build(
        attention, 64, **{k: v[0] if isinstance(v, tuple) else v for k, v in options.items()}
    )
    return make


class Between(nn.ModuleList):
    """The attention between the stages of a backbone, as ``model.attention[0 … ]``.

    The stage behind each of its modules calls it with the module's index. In the sequence of the
    backbone's children it gets none and hands on its input, so that ``nn.Sequential(*children)``
    still computes the same.
    """

    def forward(self, x, index=None):
        return x if index is None else self[index](x)


class Stage(nn.Sequential):
    """Blocks in sequence, behind the attention that stands between them and the stage before."""

    _first = None

    def gate_first(self, between, index):
        """Call ``between[index]`` on the input; the module stays between's alone."""
        self.__dict__["_first"] = (between, index)  # a tuple: not a second place for parameters

    def forward(self, x):
        if self._first is not None:
            between, index = self._first
            x = between(x, index)
        return super().forward(x)


def _module(made):
    if not isinstance(made, nn.Module):
        raise TypeError(f"attention(channels) must return an nn.Module; got {made!r}")
    return made


def choose_placement(placement, published, default):
    """``placement``, or ``default`` where it is None; a ValueError lists the ``published`` ones."""
    placement = default if placement is None else placement
    if placement not in published:
        known = ", ".join(map(repr, published))
        raise ValueError(f"unknown placement {placement!r}; the published ones are {known}")
    return placement
