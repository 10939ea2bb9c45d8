"""`zhang` and `zhang-small`: the network of Zhang, Isola and Efros 2016, "Colorful image colorization", key for key.

Layers and names are those of the authors' ``eccv16`` in PyTorch; `colorstudy.experiments.release` loads its weights.
"""

import torch
from torch import nn

from colorstudy.bins import ColorBins
from colorstudy.networks._layers import LightnessNetwork, convs


class Zhang(LightnessNetwork):
    """The published network: eight blocks that end at a quarter of the input size, 32 million parameters for 313 bins.

    `width` is a factor on the channels of every hidden layer: 1/4 (`zhang-small`) has two million parameters and trains
    on a laptop. With 313 bins there is also the release's ``model_out``, unused here, as `ColorBins` decodes: it turns
    their probabilities (B, 313, h, w) into ab / 110 (B, 2, h, w).
    """

    def __init__(self, out_channels: int, width: float = 1.0) -> None:
        super().__init__(stride=4, cell=8)
        w64, w128, w256, w512 = (max(1, round(width * channels)) for channels in (64, 128, 256, 512))
        self.model1 = _block(1, w64, w64, stride=2)
        self.model2 = _block(w64, w128, w128, stride=2)
        self.model3 = _block(w128, w256, w256, w256, stride=2)
        self.model4 = _block(w256, w512, w512, w512)
        self.model5 = _block(w512, w512, w512, w512, dilation=2)
        self.model6 = _block(w512, w512, w512, w512, dilation=2)
        self.model7 = _block(w512, w512, w512, w512)
        double = nn.ConvTranspose2d(w512, w256, 4, stride=2, padding=1)
        self.model8 = nn.Sequential(double, nn.ReLU(), *convs(w256, w256, w256), nn.Conv2d(w256, out_channels, 1))
        for layer in self.modules():
            # He et al. 2015. Under torch's default, three convolutions shrink a signal below batch norm's epsilon.
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer is not self.model8[-1]:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.get_parameter("bias"))
        if out_channels == 313:  # frozen, as it says where the bins are; the annealed mean generalises it
            self.model_out = nn.Conv2d(out_channels, 2, 1, bias=False).requires_grad_(False)
            self.model_out.weight.copy_(ColorBins.in_gamut().centers.T[..., None, None] / 110)  # (2, 313, 1, 1)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        x = self.model3(self.model2(self.model1(x)))  # (B, w256, H/8, W/8)
        x = self.model7(self.model6(self.model5(self.model4(x))))  # (B, w512, H/8, W/8)
        return self.model8(x)  # (B, out_channels, H/4, W/4)


def _block(*channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(*convs(*channels, stride=stride, dilation=dilation), nn.BatchNorm2d(channels[-1]))
