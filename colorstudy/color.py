"""sRGB <-> CIELAB (D65, 2 degrees) and sRGB <-> YUV on torch tensors, differentiable everywhere.

A *space* splits a picture into a lightness map, the input of every network, and two chroma maps, what a network has to
find: ``"lab"`` gives L* and (a*, b*), ``"yuv"`` gives 100 Y' and (U, V).
"""

from collections.abc import Callable

import numpy as np
import torch

from colorstudy._checks import require, require_choice, require_maps

# Linear sRGB -> XYZ: ITU-R BT.709 primaries with the D65 white point, in the rounding that scikit-image and OpenCV use.
_XYZ_FROM_RGB = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
_WHITE = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)  # D65, 2 degree observer
# Gamma-encoded sRGB -> Y'UV: ITU-R BT.601 luma, U and V scaled to [-0.436, 0.436] and [-0.615, 0.615].
_YUV_FROM_RGB = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]],
    dtype=torch.float64,
)
# Dividing XYZ by the white point is one matrix with the conversion, so a pixel passes through a single product.
_NORMALIZED_FROM_RGB = _XYZ_FROM_RGB / _WHITE[:, None]
_RGB_FROM_NORMALIZED, _RGB_FROM_YUV = torch.linalg.inv(_NORMALIZED_FROM_RGB), torch.linalg.inv(_YUV_FROM_RGB)
# f(t) of CIE 15:2004 switches from a line to the cube root at t = (6/29)^3, where f = 6/29.
_KNEE = 6 / 29
_LINEAR_KNEE = 0.0031306684425005883  # where line and curve of IEC 61966-2-1 meet, which it rounds to 0.0031308
_BLOCK = 1 << 16  # pixels converted at once: few enough for a processor's cache, enough to be worth the calls

SPACES = {"lab": 110.0, "yuv": 0.615}
"""The spaces, each with the largest magnitude that its chroma takes: the scale of a network's output."""


def srgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIELAB (*, 3, H, W) of sRGB pictures (*, 3, H, W) in [0, 1], or uint8: IEC 61966-2-1, CIE 15:2004.

    L* in [0, 100], a* in about [-86.2, 98.3], b* in about [-107.9, 94.5]; of uint8 pictures in float32. Agrees with
    ``skimage.color.rgb2lab``.
    """
    require_maps(rgb, "rgb", 3, "(*, 3, H, W)", or_bytes=True)

    def convert(block: torch.Tensor) -> torch.Tensor:
        fx, fy, fz = _f(block).unbind(-3)
        return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)

    return in_blocks(convert, rgb)


def lab_to_srgb(lab: torch.Tensor) -> torch.Tensor:
    """sRGB (*, 3, H, W) in [0, 1] of CIELAB (*, 3, H, W): colours outside of the gamut are clipped by channel."""
    require_maps(lab, "lab", 3, "(*, 3, H, W)")
    return in_blocks(_srgb, lab)


def srgb_to_yuv(rgb: torch.Tensor) -> torch.Tensor:
    """Y in [0, 1], U in [-0.436, 0.436], V in [-0.615, 0.615] of sRGB (*, 3, H, W), as above (ITU-R BT.601)."""
    require_maps(rgb, "rgb", 3, "(*, 3, H, W)", or_bytes=True)
    return _mix(_YUV_FROM_RGB, rgb / 255 if rgb.dtype == torch.uint8 else rgb)


def split(rgb: torch.Tensor, space: str = "lab") -> tuple[torch.Tensor, torch.Tensor]:
    """Lightness (*, 1, H, W) in [0, 100] and chroma (*, 2, H, W) of sRGB pictures (*, 3, H, W) in [0, 1], or uint8."""
    require_choice(space, SPACES, "space")
    maps = srgb_to_lab(rgb) if space == "lab" else srgb_to_yuv(rgb)
    lightness, chroma = maps[..., :1, :, :], maps[..., 1:, :, :]
    return lightness if space == "lab" else 100 * lightness, chroma


def lightness_of(rgb: torch.Tensor, space: str = "lab") -> torch.Tensor:
    """Lightness (*, 1, H, W) of pictures (*, 3, H, W): `split` without the cost of the chroma of "lab"."""
    require_maps(rgb, "rgb", 3, "(*, 3, H, W)", or_bytes=True)
    return in_blocks(lambda some: 116 * _f(some, slice(1, 2)) - 16 if space == "lab" else split(some, space)[0], rgb)


def merge(lightness: torch.Tensor, chroma: torch.Tensor, space: str = "lab") -> torch.Tensor:
    """sRGB in [0, 1] of lightness (*, 1, H, W) and chroma (*, 2, H, W): the inverse of `split`."""
    require_maps(lightness, "lightness", 1, "(*, 1, H, W)")
    require_maps(chroma, "chroma", 2, "(*, 2, H, W)")
    require_choice(space, SPACES, "space")
    if space == "lab":
        return in_blocks(_srgb, torch.cat([lightness, chroma], dim=-3))
    return _mix(_RGB_FROM_YUV, torch.cat([lightness / 100, chroma], dim=-3)).clamp(0, 1)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 pictures (*, H, W, 3) as a float32 tensor (*, 3, H, W) in [0, 1]."""
    require(images.dtype == np.uint8, "images", "uint8 pictures", images.dtype)
    return torch.from_numpy(np.array(images)).movedim(-1, -3).float() / 255


def to_uint8(rgb: torch.Tensor) -> np.ndarray:
    """Pictures (*, 3, H, W) in [0, 1] as a uint8 array (*, H, W, 3)."""
    return (rgb * 255).round_().byte().movedim(-3, -1).contiguous().cpu().numpy()


def in_blocks(convert: Callable[..., torch.Tensor], maps: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    """`convert(maps, *more)`, of large ones some rows at a time: what comes up in between then stays in the cache."""
    height, width = maps.shape[-2:]
    if height * width <= _BLOCK or maps.device.type != "cpu" or maps.requires_grad or maps.dtype == torch.bfloat16:
        return convert(maps, *more)
    two = convert(*(some[..., :2, :] for some in (maps, *more))).numpy()  # rows: one would not tell how they lie
    # To touch new memory takes as long as to convert, but for the huge pages that numpy asks for.
    whole = torch.from_numpy(np.empty_like(two, shape=(*two.shape[:-2], height, width)))
    for target, *block in zip(*(some.split(max(1, _BLOCK // width), dim=-2) for some in (whole, maps, *more))):
        target.copy_(convert(*block))
    return whole


def _linear(rgb: torch.Tensor) -> torch.Tensor:
    """Linear light of gamma-encoded values, in [0, 1] or uint8."""
    if rgb.dtype == torch.uint8:  # 256 values to linearise, not one a sample
        table = _linear(torch.arange(256, device=rgb.device) / 255)
        return table.index_select(0, rgb.int().flatten()).view(rgb.shape)
    return _power((rgb + 0.055) / 1.055, 2.4, _LINEAR_KNEE ** (1 / 2.4), 1.055 / 12.92)


def _f(rgb: torch.Tensor, channels: slice = slice(None)) -> torch.Tensor:
    """f of CIE 15:2004 of X, Y, Z, or only these `channels`, over those of white, of sRGB (*, 3, H, W)."""
    t = _mix(_NORMALIZED_FROM_RGB, _linear(rgb))[..., channels, :, :]
    return _power(t, 1 / 3, _KNEE**3, 1 / (3 * _KNEE**2))


def _srgb(lab: torch.Tensor) -> torch.Tensor:
    """Gamma-encoded sRGB of CIELAB (*, 3, H, W)."""
    lightness, a, b = lab.unbind(-3)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-3)
    linear = _mix(_RGB_FROM_NORMALIZED, _power(f, 3, _KNEE, 3 * _KNEE**2))
    return (1.055 * _power(linear, 1 / 2.4, _LINEAR_KNEE, 12.92 / 1.055) - 0.055).clamp(0, 1)


def _power(x: torch.Tensor, exponent: float, knee: float, slope: float) -> torch.Tensor:
    """x ** exponent above the knee, and below it the line of this slope that meets it there."""
    above = x.clamp(min=knee)  # where the gradient is finite, too
    # Other powers of float32 by way of logarithms, without gradient: to six digits, in half the time.
    is_plain = exponent == 3 or x.dtype != torch.float32 or x.requires_grad
    curve = above**exponent if is_plain else above.log2().mul_(exponent).exp2_()
    return torch.add(curve, x - above, alpha=slope)


def _mix(matrix: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The (3, 3) `matrix` applied to the channels of `maps` (*, 3, H, W)."""
    return (matrix.to(maps.device, maps.dtype) @ maps.flatten(-2)).view(maps.shape)  # (3, 3) @ (*, 3, H*W)
