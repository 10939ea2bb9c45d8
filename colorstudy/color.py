"""sRGB <-> CIELAB (D65, 2 degrees) and sRGB <-> YUV on torch tensors, differentiable everywhere.

A *space* splits a picture into a lightness map, the input of every network, and two chroma maps, what a network has to
find: ``"lab"`` gives L* and (a*, b*), ``"yuv"`` gives 100 Y' and (U, V).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from colorstudy._checks import require, require_maps

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
_RGB_FROM_NORMALIZED = torch.linalg.inv(_NORMALIZED_FROM_RGB)
_RGB_FROM_YUV = torch.linalg.inv(_YUV_FROM_RGB)

# f(t) of CIE 15:2004 switches from a line to the cube root at t = (6/29)^3, where f = 6/29.
_KNEE = 6 / 29

_BLOCK, _LARGE = 1 << 17, 1 << 21  # pixels that are converted at once, of a picture of more than so many

SPACES = {"lab": 110.0, "yuv": 0.615}
"""The spaces, each with the largest magnitude that its chroma takes: the scale of a network's output."""


def srgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIELAB of sRGB pictures.

    Parameters
    ----------
    rgb : tensor (*, 3, H, W)
        Gamma-encoded sRGB in [0, 1], or uint8 in [0, 255].

    Returns
    -------
    tensor (*, 3, H, W)
        L* in [0, 100]; a* in about [-86.2, 98.3], b* in about [-107.9, 94.5]. Of uint8 pictures in float32.

    Raises
    ------
    TypeError, ValueError
        If `rgb` is not a floating-point or uint8 tensor of that shape.

    References
    ----------
    IEC 61966-2-1 (the transfer curve); CIE 15:2004 (L*, a*, b*). The result agrees with ``skimage.color.rgb2lab``.
    """
    bytes_ = isinstance(rgb, torch.Tensor) and rgb.dtype == torch.uint8
    require_maps(rgb[..., :0, :0].float() if bytes_ else rgb, "rgb", 3, "(*, 3, H, W)")
    if bytes_:  # there are 256 values to linearise, not one a sample
        table = _linear(torch.arange(256, device=rgb.device) / 255)
        return _in_blocks(lambda block: _lab(table.index_select(0, block.int().flatten()).view(block.shape)), rgb)
    return _in_blocks(lambda block: _lab(_linear(block)), rgb)


def _linear(rgb: torch.Tensor) -> torch.Tensor:
    """Linear light of gamma-encoded values in [0, 1] (IEC 61966-2-1)."""
    # Each branch is clamped to its own domain: the unused one's gradient is multiplied by zero, and 0 * inf is nan.
    return torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)


def _lab(linear: torch.Tensor) -> torch.Tensor:
    """CIELAB of linear sRGB (*, 3, H, W)."""
    t = _mix(_NORMALIZED_FROM_RGB, linear)
    f = torch.where(t > _KNEE**3, t.clamp(min=_KNEE**3) ** (1 / 3), t / (3 * _KNEE**2) + 4 / 29)
    fx, fy, fz = f.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def lab_to_srgb(lab: torch.Tensor) -> torch.Tensor:
    """sRGB of CIELAB pictures, clipped to [0, 1].

    Parameters
    ----------
    lab : tensor (*, 3, H, W)
        L* in [0, 100], a* and b* of any value: colours outside of the sRGB gamut are clipped channel by channel.

    Returns
    -------
    tensor (*, 3, H, W)
        Gamma-encoded sRGB in [0, 1]; ``lab_to_srgb(srgb_to_lab(rgb))`` is `rgb` to 1e-4.

    Raises
    ------
    TypeError, ValueError
        If `lab` is not a floating-point tensor of that shape.
    """
    require_maps(lab, "lab", 3, "(*, 3, H, W)")
    return _in_blocks(_srgb, lab)


def _srgb(lab: torch.Tensor) -> torch.Tensor:
    """Gamma-encoded sRGB of CIELAB (*, 3, H, W)."""
    lightness, a, b = lab.unbind(-3)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-3)
    t = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = _mix(_RGB_FROM_NORMALIZED, t)
    encoded = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, encoded, linear * 12.92).clamp(0, 1)


def srgb_to_yuv(rgb: torch.Tensor) -> torch.Tensor:
    """Y'UV of sRGB pictures: a linear map of the gamma-encoded values (ITU-R BT.601).

    Parameters
    ----------
    rgb : tensor (*, 3, H, W)
        Gamma-encoded sRGB in [0, 1].

    Returns
    -------
    tensor (*, 3, H, W)
        Y in [0, 1], U in [-0.436, 0.436], V in [-0.615, 0.615]. Agrees with ``skimage.color.rgb2yuv``.

    Raises
    ------
    TypeError, ValueError
        If `rgb` is not a floating-point tensor of that shape.
    """
    require_maps(rgb, "rgb", 3, "(*, 3, H, W)")
    return _mix(_YUV_FROM_RGB, rgb)


def yuv_to_srgb(yuv: torch.Tensor) -> torch.Tensor:
    """sRGB of Y'UV pictures (*, 3, H, W), clipped to [0, 1]; the inverse of `srgb_to_yuv`, with its errors."""
    require_maps(yuv, "yuv", 3, "(*, 3, H, W)")
    return _mix(_RGB_FROM_YUV, yuv).clamp(0, 1)


def split(rgb: torch.Tensor, space: str = "lab") -> tuple[torch.Tensor, torch.Tensor]:
    """Lightness and chroma of sRGB pictures in `space`.

    Parameters
    ----------
    rgb : tensor (*, 3, H, W)
        Gamma-encoded sRGB in [0, 1]; for "lab" also uint8 in [0, 255].
    space : {"lab", "yuv"}

    Returns
    -------
    lightness : tensor (*, 1, H, W)
        L*, or 100 Y': in [0, 100] either way.
    chroma : tensor (*, 2, H, W)
        (a*, b*), or (U, V).

    Raises
    ------
    ValueError
        If `space` is unknown or `rgb` has another shape.
    """
    check_space(space)
    if space == "lab":
        lab = srgb_to_lab(rgb)
        return lab[..., :1, :, :], lab[..., 1:, :, :]
    yuv = srgb_to_yuv(rgb)
    return 100 * yuv[..., :1, :, :], yuv[..., 1:, :, :]


def merge(lightness: torch.Tensor, chroma: torch.Tensor, space: str = "lab") -> torch.Tensor:
    """sRGB in [0, 1] of lightness (*, 1, H, W) and chroma (*, 2, H, W): the inverse of `split`, with its errors."""
    check_space(space)
    require_maps(lightness, "lightness", 1, "(*, 1, H, W)")
    require_maps(chroma, "chroma", 2, "(*, 2, H, W)")
    if space == "lab":
        return lab_to_srgb(torch.cat([lightness, chroma], dim=-3))
    return yuv_to_srgb(torch.cat([lightness / 100, chroma], dim=-3))


def check_space(space: str) -> None:
    """Raise a ``ValueError`` unless `space` names one of `SPACES`."""
    require(space in SPACES, "space", f"one of {sorted(SPACES)}", repr(space))


def _in_blocks(convert: Callable[[torch.Tensor], torch.Tensor], maps: torch.Tensor) -> torch.Tensor:
    """`convert(maps)`, a large picture some rows at a time: what comes up in between then stays in the cache."""
    height, width = maps.shape[-2:]
    if height * width <= _LARGE or maps.device.type != "cpu":
        return convert(maps)
    rows = max(1, _BLOCK // width)
    return torch.cat([convert(block) for block in maps.split(rows, dim=-2)], dim=-2)


def _mix(matrix: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The (3, 3) `matrix` applied to the channels of `maps` (*, 3, H, W)."""
    matrix = matrix.to(maps.device, maps.dtype)
    return (matrix @ maps.flatten(-2)).view(maps.shape)  # (3, 3) @ (*, 3, H*W)
