"""The networks: lightness (B, 1, H, W) in [0, 100] in, `out_channels` maps out. They know nothing of colour spaces.

Ours normalise their own input, so that training and colouring cannot differ, and take pictures of any size:
``network.stride`` s gives ceil(H / s) x ceil(W / s). Yours may give maps of any size. Fresh weights come from torch's
default generator; ``prepare(batches)``, of networks that have it, sees the lightness to train on before training.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from colorstudy._checks import require, require_choice, resolve
from colorstudy.networks._trunk import Trunk, lite0
from colorstudy.networks.cheng import Cheng
from colorstudy.networks.colorunet import ColorUNet, ColorUNetFrozenNorm, ConvNet
from colorstudy.networks.compact import Compact
from colorstudy.networks.dahl import Dahl
from colorstudy.networks.pretrained import Pretrained
from colorstudy.networks.zhang import Zhang

__all__ = ["NETWORKS", "Trunk", "build", "lite0"]

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "compact": Compact,
    "colorunet": ColorUNet,
    "colorunet-released": partial(ColorUNet, released=True),
    "colorunet-frozen-norm": ColorUNetFrozenNorm,
    "convnet": ConvNet,
    "convnet-released": partial(ConvNet, released=True),
    "dahl": Dahl,
    "cheng": Cheng,
    "cheng-no-patch": partial(Cheng, patch=False),
    "cheng-no-daisy": partial(Cheng, daisy=False),
    "cheng-no-semantic": partial(Cheng, semantic=False),
    "cheng-one-cluster": partial(Cheng, clusters=1),
    "pretrained": Pretrained,
    "pretrained-tuned": partial(Pretrained, tuned=True),
    "pretrained-double": partial(Pretrained, zoom=2),
    "pretrained-double-tuned": partial(Pretrained, zoom=2, tuned=True),
    "zhang": Zhang,
    "zhang-small": partial(Zhang, width=0.25),
}


def build(name: str | Callable[[int], nn.Module], out_channels: int) -> nn.Module:
    """A fresh network of `out_channels` maps; `name` is of `NETWORKS`, ``"package.module:Name"`` or a class."""
    require(out_channels >= 1, "out_channels", "a number >= 1", out_channels)
    if isinstance(name, str) and ":" not in name:
        require_choice(name, NETWORKS, "network")
        name = NETWORKS[name]
    make = resolve(name, "network") if isinstance(name, str) else name
    return make(out_channels)
