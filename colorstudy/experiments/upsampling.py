"""Ways from the few pixels of a network's colours to the many of a picture, so that colours end where things do."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy.color import merge
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.filters import joint_bilateral
from colorstudy.study.evaluation import ColorizerLike, Gray, evaluate


def guided(chroma: torch.Tensor, lightness: torch.Tensor, radius: int = 4, smooth: float = 4.0) -> torch.Tensor:
    """Chroma (B, 2, H, W) as in each window a linear function of lightness (B, 1, H, W), in [0, 100]: He et al. 2010.

    Windows have 2 `radius` + 1 pixels a side; what varies in lightness by less than `smooth` is smoothed.
    """

    def mean(maps: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(maps, 2 * radius + 1, 1, radius, count_include_pad=False)

    centre, level = mean(lightness), mean(chroma)
    slope = (mean(lightness * chroma) - centre * level) / (mean(lightness.square()) - centre.square() + smooth**2)
    return mean(slope) * lightness + mean(level - slope * centre)


UPSAMPLINGS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "bilinear": lambda chroma, lightness: chroma,
    "guided": guided,
    "joint bilateral": partial(joint_bilateral, sigma_space=3.0, sigma_lightness=10.0),
}


class Upsampling(Colorizer):
    """A `Colorizer` that enlarges chroma bilinearly and then filters it, at full size, by one of `UPSAMPLINGS`.

    Pictures smaller than its working size are enlarged for the network.
    """

    def __init__(self, *args: Any, by: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.by = by

    def predict(self, lightness: torch.Tensor) -> torch.Tensor:
        scale = self.size / min(lightness.shape[-2:])
        if scale > 1:
            lightness = F.interpolate(lightness, scale_factor=scale, mode="bicubic").clamp(0, 100)
        return super().predict(lightness)

    @torch.no_grad()
    def render(self, lightness: torch.Tensor, prediction: torch.Tensor, *, as_bytes: bool = False) -> torch.Tensor:
        chroma = F.interpolate(self.decode(prediction), lightness.shape[-2:], mode="bilinear")
        return merge(lightness, UPSAMPLINGS[self.by](chroma, lightness), self.space)


def upsamplings(colorizer: Colorizer, bank: ImageBank, sizes: Sequence[int], most: int) -> pd.DataFrame:
    """`evaluate` of at most `most` validation pictures: bilinear at each of `sizes`, working sizes in pixels.

    At that of `colorizer` by each of `UPSAMPLINGS`, and left grey, too: columns ``size`` and ``by`` say so.
    """
    ways = dict.fromkeys([*((size, "bilinear") for size in sizes), *((colorizer.size, by) for by in UPSAMPLINGS)])
    painters: dict[tuple[int, str], ColorizerLike] = {(0, "gray"): Gray()}
    painters |= {(size, by): Upsampling(colorizer.model, size, by=by, **colorizer.options) for size, by in ways}
    found = {key: evaluate(painter, bank, "val", most=most) for key, painter in painters.items()}
    return pd.concat(found, names=["size", "by"]).reset_index()
