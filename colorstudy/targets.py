"""What the maps of a network mean: a colour (`Regression`) or a distribution over colours (`Classification`).

A target holds both directions together, so that they cannot disagree: ``loss(output, chroma)`` while training and
``decode(output)`` while colouring. It knows nothing of layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from colorstudy._checks import require, require_maps
from colorstudy.bins import ColorBins
from colorstudy.color import SPACES, check_space
from colorstudy.filters import gaussian_blur


class Regression(nn.Module):
    """The network gives the chroma itself, and is trained by squared error.

    Zhang et al. 2016, Equation 1; also Cheng et al. 2015 and Dahl 2016, in YUV.

    Parameters
    ----------
    space : {"lab", "yuv"}
        Its largest chroma (110, 0.615) scales the output, so that the network works with numbers near 1.
    sampling : {"area", "point"}
        How a truth that is larger than the output comes to its size: each output pixel takes the mean of its area, or
        its first pixel, as the released code of Zhang et al. does at stride 4.
    blurs : tuple of int
        Widths in pixels, odd, of Gaussian blurs: the loss is the mean of the error's own and that of each blurred copy
        of both sides (Dahl 2016, with 3 and 5). Blurring is linear, so it is the error that is blurred.

    Attributes
    ----------
    out_channels : int
        2.
    """

    out_channels = 2

    def __init__(self, space: str = "lab", *, sampling: str = "area", blurs: tuple[int, ...] = ()) -> None:
        super().__init__()
        check_space(space)
        _check_sampling(sampling)
        require(all(size >= 1 and size % 2 == 1 for size in blurs), "blurs", "odd widths", blurs)
        self.space, self.sampling, self.blurs = space, sampling, blurs

    def loss(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Half the squared distance between decoded output and chroma, mean over pixels, in squared chroma units.

        Parameters
        ----------
        output : tensor (B, 2, h, w)
        chroma : tensor (B, 2, H, W)
            Brought to the size of the output as `sampling` says.

        Returns
        -------
        float32 tensor ()

        Raises
        ------
        TypeError, ValueError
            If a shape is another.
        """
        _check_pair(output, chroma, self.out_channels)
        error = self.decode(output) - _at_size_of(output, chroma, self.sampling)
        errors = [error, *(gaussian_blur(error, size) for size in self.blurs)]
        return sum(e.square().sum(dim=1).mean() / 2 for e in errors) / len(errors)

    def decode(self, output: torch.Tensor) -> torch.Tensor:
        """Chroma (B, 2, h, w) of `output` (B, 2, h, w), in float32."""
        require_maps(output, "output", self.out_channels, "(B, 2, h, w)")
        return output.float() * SPACES[self.space]

    def mixable(self, output: torch.Tensor) -> torch.Tensor:
        """What of `output` (B, 2, h, w) can be averaged, over frames for instance: the chroma, up to its scale."""
        return output.float()

    def unmixed(self, mixture: torch.Tensor) -> torch.Tensor:
        """The output that an average of `mixable` ones stands for."""
        return mixture


class Classification(nn.Module):
    """The network gives logits over colour bins, and is trained by weighted cross-entropy with soft targets.

    Zhang et al. 2016, Equations 2 to 5. One neighbour makes the target one-hot, as in Billaut et al. 2018.

    Parameters
    ----------
    bins : ColorBins
    weights : tensor (Q,), optional
        Class weights, positive: a pixel takes that of its nearest bin. None weighs all alike.
    neighbors : int
        Bins in the soft target of a pixel.
    sigma : float
        Width of the soft target in chroma units.
    temperature : float
        Default of `decode`.
    posthoc : tensor (Q,), optional
        Class weights that `decode` may apply afterwards, positive; `weights` by default.
    rebalance : float
        Default of `decode`.
    sampling : {"area", "point"}
        As of `Regression`.
    grey_mask : float
        Pictures in which neither chroma ever exceeds this magnitude count nothing in the loss; the released code of
        Zhang et al. uses 5, their paper has no mask. 0 counts all.

    Attributes
    ----------
    out_channels : int
        Q.

    Raises
    ------
    ValueError
        If `weights` or `posthoc` is not (Q,), or not positive and finite, or a number is outside of its range.
    """

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
        super().__init__()
        weights = _class_weights(torch.ones(len(bins)) if weights is None else weights, "weights", len(bins))
        posthoc = weights if posthoc is None else _class_weights(posthoc, "posthoc", len(bins))
        require(1 <= neighbors <= len(bins), "neighbors", f"an integer in [1, {len(bins)}]", neighbors)
        require(sigma > 0, "sigma", "a width > 0", sigma)
        require(temperature > 0, "temperature", "a number > 0", temperature)
        require(rebalance >= 0, "rebalance", "a number >= 0", rebalance)
        require(grey_mask >= 0, "grey_mask", "a chroma >= 0", grey_mask)
        _check_sampling(sampling)
        self.bins = bins
        self.neighbors, self.sigma, self.sampling, self.grey_mask = neighbors, sigma, sampling, grey_mask
        self.temperature, self.rebalance = temperature, rebalance
        self.register_buffer("weights", weights)
        self.register_buffer("posthoc", posthoc.clone())  # two names of one tensor could not be saved

    @property
    def out_channels(self) -> int:
        return len(self.bins)

    def loss(self, output: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the soft target, times the weight of the pixel's own bin, mean over pixels.

        Parameters
        ----------
        output : tensor (B, Q, h, w)
            Logits.
        chroma : tensor (B, 2, H, W)
            Brought to the size of the output as `sampling` says.

        Returns
        -------
        tensor ()
            At least 0, in float32, or float64 for logits of it; divided by the number of pixels, as the mean weight
            under the prior is 1.

        Raises
        ------
        TypeError, ValueError
            If a shape is another.
        """
        _check_pair(output, chroma, self.out_channels)
        truth = _at_size_of(output, chroma, self.sampling)
        indices, z = self.bins.soft(truth, self.neighbors, self.sigma)  # (B, h, w, k)
        z = z * self.weights[indices[..., :1]]  # the nearest bin comes first
        if self.grey_mask > 0:
            z = z * (chroma.abs().amax(dim=(1, 2, 3)) > self.grey_mask).view(-1, 1, 1, 1)
        z = z * (1 / indices[..., 0].numel())  # here, where there is least of it
        return _SparseCrossEntropy.apply(output.to(torch.promote_types(output.dtype, torch.float32)), indices, z)

    def decode(
        self, output: torch.Tensor, temperature: float | None = None, rebalance: float | None = None
    ) -> torch.Tensor:
        """Annealed mean of a predicted distribution, rebalanced first if asked for.

        Trained with class weights w, a classifier tends to a distribution proportional to w p; without, to p. So adding
        s log w to the logits of the second, s = `rebalance` in [0, 1], goes from the one to the other without training
        (logit adjustment: Menon et al. 2021, "Long-tail learning via logit adjustment").

        Parameters
        ----------
        output : tensor (B, Q, h, w)
            Logits.
        temperature, rebalance : float, optional
            T > 0 and s >= 0, instead of the target's own.

        Returns
        -------
        tensor (B, 2, h, w)
            In the units of the bins' space, at least float32.

        Raises
        ------
        TypeError, ValueError
            If `output` has another shape, or a number is outside of its range.
        """
        s = self.rebalance if rebalance is None else rebalance
        require(s >= 0, "rebalance", "a number >= 0", s)
        require_maps(output, "output", self.out_channels, f"(B, {self.out_channels}, h, w)")
        if s > 0:
            output = output + s * self.posthoc.log()[:, None, None]
        return self.bins.annealed_mean(output, self.temperature if temperature is None else temperature)

    def mixable(self, output: torch.Tensor) -> torch.Tensor:
        """What of logits (B, Q, h, w) can be averaged, over frames for instance: the distribution."""
        return torch.softmax(output.float(), dim=1)

    def unmixed(self, mixture: torch.Tensor) -> torch.Tensor:
        """Logits of an average (B, Q, h, w) of `mixable` ones."""
        return mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()


class _SparseCrossEntropy(torch.autograd.Function):
    """Sum over pixels of -sum_q z_q log softmax(logits)_q, for a target z that is zero but for k bins a pixel.

    The gradient, softmax(logits) * sum(z) - z, is made at once, in the place of the log-softmax: of the size of the
    logits there is no other tensor.
    """

    @staticmethod
    def forward(ctx, logits: torch.Tensor, indices: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        indices, z = indices.permute(0, 3, 1, 2), z.permute(0, 3, 1, 2).to(logits.dtype)  # (B, k, h, w)
        gradient = torch.empty_like(logits)
        # A processor's cache holds one picture, and not a batch; a GPU wants all its work at once.
        on_cpu = logits.device.type == "cpu"
        parts = range(len(logits)) if on_cpu else [slice(None)]
        losses = [_loss_and_gradient(logits[i], indices[i], z[i], gradient[i]) for i in parts]
        ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # Mostly 1, which on a GPU would be slower to find out than to multiply with.
        once = grad.device.type == "cpu" and grad.item() == 1
        return gradient if once else gradient * grad, None, None


def _loss_and_gradient(logits: torch.Tensor, indices: torch.Tensor, z: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Loss () of logits (*, Q, h, w) for the target z (*, k, h, w) of bins `indices`; its gradient goes to `out`."""
    torch.log_softmax(logits, dim=-3, out=out)
    loss = -(z * out.gather(-3, indices)).sum()
    out.exp_().mul_(z.sum(dim=-3, keepdim=True)).scatter_add_(-3, indices, -z)
    return loss


def _class_weights(weights: torch.Tensor, argument: str, count: int) -> torch.Tensor:
    weights = torch.as_tensor(weights, dtype=torch.float32)
    require(weights.shape == (count,), argument, f"shape ({count},)", tuple(weights.shape))
    require(bool((weights > 0).all() & weights.isfinite().all()), argument, "positive finite numbers", "others")
    return weights


def _check_pair(output: torch.Tensor, chroma: torch.Tensor, channels: int) -> None:
    require_maps(output, "output", channels, f"(B, {channels}, h, w)")
    require_maps(chroma, "chroma", 2, "(B, 2, H, W)")
    require(chroma.ndim == output.ndim == 4, "chroma", "four dimensions, as the output", tuple(chroma.shape))
    require(len(chroma) == len(output), "chroma", f"a batch of {len(output)}, as the output", len(chroma))


def _check_sampling(sampling: str) -> None:
    require(sampling in ("area", "point"), "sampling", "'area' or 'point'", repr(sampling))


def _at_size_of(output: torch.Tensor, chroma: torch.Tensor, sampling: str) -> torch.Tensor:
    """`chroma` at the size of `output`: the mean over each pixel's area, or the area's first pixel."""
    if chroma.shape[-2:] == output.shape[-2:]:
        return chroma
    if sampling == "point":
        rows, columns = (torch.arange(n) * m // n for n, m in zip(output.shape[-2:], chroma.shape[-2:], strict=True))
        return chroma[..., rows, :][..., columns]
    return F.adaptive_avg_pool2d(chroma, output.shape[-2:])
