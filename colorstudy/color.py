"""sRGB <-> CIELAB (D65, 2 degrees) and sRGB <-> YUV on torch tensors, differentiable everywhere.

A *space* splits a picture into a lightness map, the input of every network, and two chroma maps, what a network has to
find: ``"lab"`` gives L* and (a*, b*), ``"yuv"`` gives 100 Y' and (U, V).
"""

from collections.abc import Callable

import numpy as np
import torch

from colorstudy._checks import require_choice, takes

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
_BLOCK, _LARGE = 1 << 17, 1 << 21  # pixels converted at once, of a picture of more than so many

SPACES = {"lab": 110.0, "yuv": 0.615}
"""The spaces, each with the largest magnitude that its chroma takes: the scale of a network's output."""


@takes(rgb="uint8 or (*, 3, H, W)")
def srgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIELAB (*, 3, H, W) of sRGB pictures (*, 3, H, W) in [0, 1], or uint8: IEC 61966-2-1, CIE 15:2004.

    L* in [0, 100], a* in about [-86.2, 98.3], b* in about [-107.9, 94.5]; of uint8 pictures in float32. Agrees with
    ``skimage.color.rgb2lab``.
    """
    if rgb.dtype == torch.uint8:  # 256 values to linearise, not one a sample
        table = _linear(torch.arange(256, device=rgb.device) / 255)
        return _in_blocks(lambda block: _lab(table.index_select(0, block.int().flatten()).view(block.shape)), rgb)
    return _in_blocks(lambda block: _lab(_linear(block)), rgb)


@takes(lab="(*, 3, H, W)")
def lab_to_srgb(lab: torch.Tensor) -> torch.Tensor:
    """sRGB (*, 3, H, W) in [0, 1] of CIELAB (*, 3, H, W): colours outside of the gamut are clipped by channel."""
    return _in_blocks(_srgb, lab)


@takes(rgb="(*, 3, H, W)")
def srgb_to_yuv(rgb: torch.Tensor) -> torch.Tensor:
    """Y in [0, 1], U in [-0.436, 0.436], V in [-0.615, 0.615] of sRGB (*, 3, H, W) in [0, 1] (ITU-R BT.601)."""
    return _mix(_YUV_FROM_RGB, rgb)


def split(rgb: torch.Tensor, space: str = "lab") -> tuple[torch.Tensor, torch.Tensor]:
    """Lightness (*, 1, H, W), L* or 100 Y', in [0, 100], and chroma (*, 2, H, W), (a*, b*) or (U, V), of pictures.

    `rgb` (*, 3, H, W) is gamma-encoded sRGB in [0, 1], or uint8.
    """
    require_choice(space, SPACES, "space")
    if space == "lab":
        lab = srgb_to_lab(rgb)
        return lab[..., :1, :, :], lab[..., 1:, :, :]
    yuv = srgb_to_yuv(rgb / 255 if rgb.dtype == torch.uint8 else rgb)
    return 100 * yuv[..., :1, :, :], yuv[..., 1:, :, :]


@takes(lightness="(*, 1, H, W)", chroma="(*, 2, H, W)")
def merge(lightness: torch.Tensor, chroma: torch.Tensor, space: str = "lab") -> torch.Tensor:
    """sRGB in [0, 1] of lightness (*, 1, H, W) and chroma (*, 2, H, W): the inverse of `split`."""
    require_choice(space, SPACES, "space")
    if space == "lab":
        return _in_blocks(_srgb, torch.cat([lightness, chroma], dim=-3))
    return _mix(_RGB_FROM_YUV, torch.cat([lightness / 100, chroma], dim=-3)).clamp(0, 1)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 pictures (*, H, W, 3) as a float32 tensor (*, 3, H, W) in [0, 1]."""
    if images.dtype != np.uint8:
        raise ValueError(f"images: expected uint8 pictures, got {images.dtype}")
    return torch.from_numpy(np.array(images)).movedim(-1, -3).float() / 255


def to_uint8(rgb: torch.Tensor) -> np.ndarray:
    """Pictures (*, 3, H, W) in [0, 1] as a uint8 array (*, H, W, 3)."""
    return (rgb * 255).round_().byte().movedim(-3, -1).contiguous().cpu().numpy()


def _linear(rgb: torch.Tensor) -> torch.Tensor:
    """Linear light of gamma-encoded values in [0, 1]."""
    # Each branch is clamped to its own domain: the unused one's gradient is multiplied by zero, and 0 * inf is nan.
    return torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)


def _lab(linear: torch.Tensor) -> torch.Tensor:
    """CIELAB of linear sRGB (*, 3, H, W)."""
    t = _mix(_NORMALIZED_FROM_RGB, linear)
    f = torch.where(t > _KNEE**3, t.clamp(min=_KNEE**3) ** (1 / 3), t / (3 * _KNEE**2) + 4 / 29)
    fx, fy, fz = f.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def _srgb(lab: torch.Tensor) -> torch.Tensor:
    """Gamma-encoded sRGB of CIELAB (*, 3, H, W)."""
    lightness, a, b = lab.unbind(-3)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-3)
    t = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = _mix(_RGB_FROM_NORMALIZED, t)
    encoded = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, encoded, linear * 12.92).clamp(0, 1)


def _in_blocks(convert: Callable[[torch.Tensor], torch.Tensor], maps: torch.Tensor) -> torch.Tensor:
    """`convert(maps)`, a large picture some rows at a time: what comes up in between then stays in the cache."""
    height, width = maps.shape[-2:]
    if height * width <= _LARGE or maps.device.type != "cpu":
        return convert(maps)
    return torch.cat([convert(block) for block in maps.split(max(1, _BLOCK // width), dim=-2)], dim=-2)


def _mix(matrix: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The (3, 3) `matrix` applied to the channels of `maps` (*, 3, H, W)."""
    return (matrix.to(maps.device, maps.dtype) @ maps.flatten(-2)).view(maps.shape)  # (3, 3) @ (*, 3, H*W)
