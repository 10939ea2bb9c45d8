"""`as_batch`: whatever users have a picture in -> one kind of tensor, and back."""

import os
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from colorstudy._checks import require
from colorstudy.data.readers import read, to_array

Picture = str | os.PathLike | Image.Image | np.ndarray | torch.Tensor


def as_batch(image: Picture) -> tuple[torch.Tensor, Callable[[torch.Tensor], np.ndarray | torch.Tensor]]:
    """A picture, or a batch of them, as sRGB (B, 3, H, W), and the function that makes the coloured ones the same kind.

    `image` is a path, a PIL image, or an array or tensor of uint8 or floats in [0, 1]: (H, W), or with a dimension for
    1, 3 or 4 channels (grey, RGB, RGBA), and perhaps one for a batch. An array is read as (..., H, W, C) if that fits,
    as (..., C, H, W) otherwise; a tensor the other way round. Transparency is laid over white. uint8 stays as it is,
    floats become float32. The function takes sRGB (B, 3, H, W) in [0, 1] and gives a tensor for a tensor and an array
    for all else, uint8 for uint8 and float32 for floats, laid out as `image`.
    """
    if isinstance(image, (str, os.PathLike, Image.Image)):
        image = to_array(image) if isinstance(image, Image.Image) else read(image)
    is_array = isinstance(image, np.ndarray)
    is_bytes = getattr(image, "dtype", None) in (np.uint8, torch.uint8)
    if isinstance(image, np.ndarray) and (is_bytes or image.dtype.kind == "f"):
        pixels = torch.from_numpy(np.array(image, np.uint8 if is_bytes else np.float32, order="C"))
    elif isinstance(image, torch.Tensor) and (is_bytes or image.is_floating_point()):
        pixels = image if is_bytes else image.float()
    else:
        got = f"{type(image).__name__}{f' of {image.dtype}, not uint8 or floats' if hasattr(image, 'dtype') else ''}"
        raise TypeError(f"image: expected a path, a PIL image, an array or a tensor, got {got}")

    places = (-1, -3) if is_array else (-3, -1)  # of the channels
    pixels = pixels.unsqueeze(places[0]) if pixels.ndim == 2 else pixels
    channels = next((axis for axis in places if pixels.ndim in (3, 4) and pixels.shape[axis] in (1, 3, 4)), 0)
    expected = "(H, W), (H, W, C) or (C, H, W) with C in {1, 3, 4}, or a batch (B, ...), not empty"
    require(channels != 0 and pixels.numel() > 0, "image", expected, tuple(image.shape))
    rgb = pixels.movedim(channels, -3)
    rgb = rgb if rgb.ndim == 4 else rgb[None]  # (B, C, H, W)
    if not is_bytes:
        low, high = (value.item() for value in rgb.aminmax())
        got = f"[{low:.4g}, {high:.4g}]{'; divide by 255' if high > 1.001 else ''}"
        require(low >= -0.001 and high <= 1.001, "image", "values in [0, 1]", got)  # so that nan is refused, too
        rgb = rgb.clamp(0, 1)
    if rgb.shape[1] == 4:
        white = 255 if is_bytes else 1
        laid = white + (rgb[:, :3].float() - white) * (rgb[:, 3:] / white)
        rgb = laid.round().byte() if is_bytes else laid

    batched, device = pixels.ndim == 4, pixels.device  # so that `restore` does not keep the pixels in memory

    def restore(colored: torch.Tensor) -> np.ndarray | torch.Tensor:
        colored = colored if batched else colored[0]
        colored = (colored * 255).round_().byte() if is_bytes and colored.is_floating_point() else colored
        colored = colored.movedim(-3, channels).contiguous()
        return colored.detach().cpu().numpy() if is_array else colored.to(device)

    return rgb.expand(-1, 3, -1, -1), restore
