"""What the maps of a network mean: a colour (`Regression`) or a distribution over colours (`Classification`).

A target holds both directions together, so that they cannot disagree: ``loss(output, chroma)`` while training and
``decode(output)`` while colouring. It knows nothing of layers.
"""

import warnings
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from colorstudy._checks import require, require_choice, require_maps
from colorstudy.bins import ColorBins
from colorstudy.color import SPACES
from colorstudy.filters import gaussian_blur

SAMPLINGS = ("area", "point")
"""How a truth comes to the size of the output: each output pixel takes the mean of its area, or its first pixel, as the
released code of Zhang et al. does at stride 4."""


class Target(Protocol):
    """What a network can be trained for. If it is a ``torch.nn.Module``, its parameters are trained and saved, too."""

    out_channels: int  # maps that the network has to give

    def loss(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Loss () of the network's output (B, out_channels, h, w) for true chroma (B, 2, H, W) at full size."""

    def decode(self, output: torch.Tensor, *_: Any, **options: Any) -> torch.Tensor:
        """Chroma (B, 2, h, w) of the network's output (B, out_channels, h, w)."""


def squared_error(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Half the squared distance of chroma (B, 2, h, w), mean over pixels: Zhang et al. 2016, Equation 1."""
    return (pred - truth).square().sum(dim=1).mean() / 2


def cross_entropy(logits: torch.Tensor, indices: torch.Tensor, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """-v(Z) sum_q Z_q log Zhat_q, mean over pixels: Zhang et al. 2016, Equation 2.

    `logits` (B, Q, h, w) are those of Zhat; Z is z (B, h, w, k) at the bins `indices` and zero elsewhere; v (B, h, w).
    """
    log_p = torch.log_softmax(logits, dim=1).gather(1, indices.permute(0, 3, 1, 2))  # (B, k, h, w)
    return -(v * (z.permute(0, 3, 1, 2) * log_p).sum(dim=1)).mean()


def pixel_weights(weights: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """v(Z), weights w (Q,) of the nearest bins, first in `indices` (B, h, w, k): Zhang et al. 2016, Equation 3."""
    return weights[indices[..., 0]]


class _Target(nn.Module):
    """What both targets share: the space, and the truth at the size of the output."""

    out_channels: int

    def __init__(self, space: str, sampling: str) -> None:
        super().__init__()
        require_choice(space, SPACES, "space")
        require_choice(sampling, SAMPLINGS, "sampling")
        self.space, self.sampling, self._is_first = space, sampling, True

    def _truth(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """`chroma` (B, 2, H, W), checked, at the size of `output`."""
        require_maps(chroma, "chroma", 2, "(B, 2, H, W)")
        require_maps(output, "output", self.out_channels, f"(B, {self.out_channels}, h, w)")
        require(len(chroma) == len(output), "chroma", f"a batch of {len(output)}, as the output", len(chroma))
        largest = chroma.abs().max() if self._is_first and SPACES[self.space] > 1 else 0
        if 0.05 < largest <= 1:
            text = f"chroma: expected {self.space} units, up to about {SPACES[self.space]:g}, got values in [-1, 1]"
            warnings.warn(f"{text}; were they scaled?", stacklevel=3)
        self._is_first = bool(self._is_first and largest <= 0.05)  # a grey batch tells nothing
        if chroma.shape[-2:] == output.shape[-2:]:
            return chroma
        if self.sampling == "point":
            rows, columns = (torch.arange(n) * m // n for n, m in zip(output.shape[-2:], chroma.shape[-2:]))
            return chroma[..., rows, :][..., columns]
        return F.adaptive_avg_pool2d(chroma, (output.shape[-2], output.shape[-1]))


class Regression(_Target):
    """The network gives the chroma itself, and is trained by squared error (Zhang et al. 2016).

    The largest chroma of `space` (110, 0.615) scales the output, so that the network works with numbers near 1. `blurs`
    are widths in pixels, odd, of Gaussian blurs: the loss is the mean of the error's own and that of each blurred copy
    of both sides (Dahl 2016, with 3 and 5, in YUV). `sampling` is one of `SAMPLINGS`.
    """

    out_channels = 2

    def __init__(self, space: str = "lab", *, sampling: str = "area", blurs: tuple[int, ...] = ()) -> None:
        super().__init__(space, sampling)
        require(all(size >= 1 and size % 2 == 1 for size in blurs), "blurs", "odd widths", blurs)
        self.blurs = blurs

    def loss(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Loss () in squared chroma units, float32, of `output` (B, 2, h, w) for `chroma` (B, 2, H, W)."""
        error = self.decode(output) - self._truth(output, chroma)
        # Blurring is linear, so it is the error that is blurred.
        errors = [error, *(gaussian_blur(error, size) for size in self.blurs)]
        return torch.stack([squared_error(e, e.new_zeros(())) for e in errors]).mean()

    def decode(self, output: torch.Tensor) -> torch.Tensor:
        """Chroma (B, 2, h, w) of `output` (B, 2, h, w), in float32."""
        require_maps(output, "output", 2, "(B, 2, h, w)")
        return output.float() * SPACES[self.space]


class Classification(_Target):
    """The network gives logits over Q colour bins, and is trained by weighted cross-entropy (Zhang et al. 2016).

    A pixel takes the class weight, of positive `weights` (Q,), of its nearest bin; None weighs all alike. `neighbors`
    and `sigma`, in chroma units, are those of the soft target (`ColorBins.soft`), one-hot with one neighbour, as in
    Billaut et al. 2018; `temperature` and `rebalance` the defaults of `decode`, which may apply the weights `posthoc`
    (Q,), by default `weights`. Pictures in which neither chroma ever exceeds `grey_mask` count nothing in the loss; the
    released code of Zhang et al. uses 5, their paper has no mask.
    """

    weights: torch.Tensor
    posthoc: torch.Tensor

    def __init__(
        self,
        bins: ColorBins,
        weights: torch.Tensor | None = None,
        *,
        neighbors: int = 5,
        sigma: float = 5.0,
        temperature: float = 0.38,
        posthoc: torch.Tensor | None = None,
        rebalance: float = 0.0,
        sampling: str = "area",
        grey_mask: float = 0.0,
    ) -> None:
        super().__init__(bins.space, sampling)
        weights = _class_weights(torch.ones(len(bins)) if weights is None else weights, "weights", len(bins))
        posthoc = weights if posthoc is None else _class_weights(posthoc, "posthoc", len(bins))
        require(1 <= neighbors <= len(bins), "neighbors", f"an integer in [1, {len(bins)}]", neighbors)
        require(sigma > 0, "sigma", "a width > 0", sigma)
        require(temperature > 0, "temperature", "a number > 0", temperature)
        require(rebalance >= 0, "rebalance", "a number >= 0", rebalance)
        require(grey_mask >= 0, "grey_mask", "a chroma >= 0", grey_mask)
        self.bins, self.out_channels = bins, len(bins)
        self.neighbors, self.sigma, self.grey_mask = neighbors, sigma, grey_mask
        self.temperature, self.rebalance = temperature, rebalance
        self.register_buffer("weights", weights)
        self.register_buffer("posthoc", posthoc.clone())  # two names of one tensor could not be saved

    def loss(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Loss () of logits (B, Q, h, w) for `chroma` (B, 2, H, W), in float32 at least; the mean weight is 1."""
        indices, z = self.bins.soft(self._truth(output, chroma), self.neighbors, self.sigma)  # (B, h, w, k)
        v = pixel_weights(self.weights, indices)  # (B, h, w)
        if self.grey_mask > 0:
            v = v * (chroma.abs().amax(dim=(1, 2, 3)) > self.grey_mask).view(-1, 1, 1)
        return cross_entropy(output.to(torch.promote_types(output.dtype, torch.float32)), indices, z, v)

    def distribution(self, output: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, Q, h, w) of logits (B, Q, h, w), in float32 at least."""
        return torch.softmax(output.to(torch.promote_types(output.dtype, torch.float32)), dim=1)

    def decode(
        self, output: torch.Tensor, temperature: float | None = None, rebalance: float | None = None
    ) -> torch.Tensor:
        """Annealed mean (B, 2, h, w) of a predicted distribution, rebalanced first if asked for.

        Trained with class weights w, a classifier tends to a distribution proportional to w p; without, to p. So adding
        s log w to the logits of the second, s = `rebalance` in [0, 1], goes from the one to the other without training
        (logit adjustment: Menon et al. 2021, "Long-tail learning via logit adjustment"). `output` (B, Q, h, w) are
        logits, or log-probabilities; T > 0 and s >= 0 stand for the target's own.
        """
        s = self.rebalance if rebalance is None else rebalance
        require(s >= 0, "rebalance", "a number >= 0", s)
        require_maps(output, "output", self.out_channels, f"(B, {self.out_channels}, h, w)")
        if s > 0:
            output = output + s * self.posthoc.log()[:, None, None]
        return self.bins.annealed_mean(output, self.temperature if temperature is None else temperature)


def _class_weights(weights: torch.Tensor, argument: str, count: int) -> torch.Tensor:
    weights = torch.as_tensor(weights, dtype=torch.float32)
    require(weights.shape == (count,), argument, f"shape ({count},)", tuple(weights.shape))
    require(bool((weights > 0).all() & weights.isfinite().all()), argument, "positive finite numbers", "others")
    return weights
