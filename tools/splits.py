"""Split pictures by content: what shows the same, mirrored or not, stands on one side; so do discs and sequences.

So the column ``split`` in the manifest of photos16k was made.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from colorstudy.study.grid import roll

SHARES = {"val": 0.0625, "test": 0.125}  # of the groups; all others are for training


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """Which of the 8 x 8 lowest DCT coefficients of `grey` (..., 32, 32) exceed their median: bool (..., 64)."""
    low = dctn(grey.astype(float), axes=(-2, -1))[..., :8, :8].reshape(*grey.shape[:-2], 64)
    return low > np.median(low, axis=-1, keepdims=True)


def related(hashes: np.ndarray, mirrored: np.ndarray, same: Sequence[str], bits: int = 8) -> np.ndarray:
    """Groups (N,), numbered from 0: the connected components of pairs that belong together.

    These are pairs whose `hashes` (N, 64), or one's hash and the hash of the other `mirrored`, differ in at most `bits`
    bits, and those of an equal name in `same` (N), but "".
    """
    signs, others = (2 * maps.astype(np.float32) - 1 for maps in (hashes, np.concatenate([hashes, mirrored])))
    pairs = []
    for start in range(0, len(signs), 1024):  # a product of signs is 64 - 2 x the bits that differ
        rows, columns = np.nonzero(signs[start : start + 1024] @ others.T >= 64 - 2 * bits)
        pairs.append((rows + start, columns % len(signs)))
    first = {name: i for i, name in reversed([*enumerate(same)]) if name}
    pairs.append((np.arange(len(same)), np.array([first.get(name, i) for i, name in enumerate(same)])))
    rows, columns = (np.concatenate(side) for side in zip(*pairs))
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), (len(signs), len(signs)))
    return connected_components(graph, directed=False)[1]


def assign(groups: Sequence[int], names: Sequence[str]) -> list[str]:
    """The split of each picture, in `SHARES`: a group goes where the SHA-256 of its first name, in order, falls."""
    first = {group: name for name, group in sorted(zip(names, groups), reverse=True)}
    place = {group: int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12 for group, name in first.items()}
    test, both = SHARES["test"], SHARES["test"] + SHARES["val"]
    return ["test" if place[group] < test else "val" if place[group] < both else "train" for group in groups]


def split(root: Path, files: Sequence[str]) -> list[str]:
    """The split of the `files` of photos16k below `root`."""
    opened = (Image.open(root / file).convert("L").resize((32, 32), Image.Resampling.LANCZOS) for file in files)
    grey = np.stack([np.asarray(image) for image in opened])
    hashes, mirrored = perceptual_hash(grey), perceptual_hash(grey[:, :, ::-1])
    return assign(related(hashes, mirrored, [roll(file) for file in files]).tolist(), files)
