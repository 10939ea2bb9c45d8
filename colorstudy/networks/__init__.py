"""The networks: lightness (B, 1, H, W) in [0, 100] in, `out_channels` maps out. They know nothing of colour spaces.

Each network normalises its own input, so that training and colouring cannot differ, takes pictures of any height and
width (it pads inside and crops again), and states its output size: ``network.stride`` s gives ceil(H / s) x ceil(W /
s).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from colorstudy._checks import require
from colorstudy.networks.cheng import Cheng
from colorstudy.networks.colorunet import ColorUNet, ConvNet
from colorstudy.networks.compact import Compact
from colorstudy.networks.dahl import Dahl
from colorstudy.networks.zhang import Zhang

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "compact": Compact,
    "colorunet": ColorUNet,
    "convnet": ConvNet,
    "dahl": Dahl,
    "dahl-vgg16": partial(Dahl, trunk="vgg16"),
    "cheng": Cheng,
    "cheng-no-patch": partial(Cheng, patch=False),
    "cheng-no-daisy": partial(Cheng, daisy=False),
    "cheng-no-semantic": partial(Cheng, semantic=False),
    "cheng-one-cluster": partial(Cheng, clusters=1),
    "zhang": Zhang,
    "zhang-small": partial(Zhang, width=0.25),
}


def build(name: str, out_channels: int) -> nn.Module:
    """A network by name, freshly initialised from torch's default generator.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    out_channels : int
        Maps that it gives, as the target asks: 2 for a colour, Q for a distribution over Q bins.

    Raises
    ------
    ValueError
        If there is no such network, or `out_channels` is not positive.
    """
    require(name in NETWORKS, "name", f"one of {sorted(NETWORKS)}", repr(name))
    require(out_channels >= 1, "out_channels", "a number >= 1", out_channels)
    return NETWORKS[name](out_channels)
