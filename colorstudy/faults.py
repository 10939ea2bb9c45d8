"""Defects found in the released code of ColorUNet (Billaut et al. 2018), reproduced one at a time to measure them.

A fault is a setting of a method, never a default. That the code has them is known; where it leaves a detail open, the
text of `FAULTS` says what is assumed.
"""

from __future__ import annotations

import torch
from torch import nn

from colorstudy.bins import ColorBins

FAULTS = {
    "divided-twice": "the three noise views are divided by 255 once more, and nearly black",
    "frozen-norm": "batch norm never is in training mode: it scales and shifts, and normalises nothing",
    "lost-center": "the centre of the first bin (of the least U, we assume) stays at (0, 0) when decoding",
    "few-pictures": "the bins are those of the first 30 training pictures",
}
"""Name -> what is wrong. (A fifth, lambda 0.2, needs no switch of its own.)"""

FEW = 30
"""Pictures that "few-pictures" takes."""


class LostCenter(ColorBins):
    """Bins that label pixels as they should, but decode the first of them to no colour."""

    def annealed_mean(self, logits: torch.Tensor, temperature: float = 0.38) -> torch.Tensor:
        mean = super().annealed_mean(logits, temperature)
        logits = logits.float()
        first = torch.softmax((logits - logits.amax(dim=1, keepdim=True)) / temperature, dim=1)[:, :1]
        return mean - first * self.centers[0].view(1, 2, 1, 1)


def freeze_norms(network: nn.Module) -> None:
    """Put every batch norm of `network` in evaluation mode, in which its initial statistics stay."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
