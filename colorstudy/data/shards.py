"""Pictures by the million: tar files ("shards") that are read from front to back, in the format of webdataset.

Of two libraries that stream, webdataset and Hugging Face datasets, this is the smaller one: its shards are plain tar
files of JPEGs that any tool reads and any web server gives out, with no index, service or table format of their own.
What neither has is an exact resume, so the order of reading is fixed here: it is a function of (seed, step) alone.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy._files import read_json, write_json
from colorstudy.data import cache
from colorstudy.data.bank import ImageSet
from colorstudy.data.folder import pictures_below
from colorstudy.data.readers import GREY_CHROMA, decode, fit, max_chroma, read

INDEX = "shards.json"
"""The file beside the shards that says how many pictures each holds; it makes a folder a source."""

_SAMPLE = 1000  # pictures that stand for all where colours are counted


@dataclass(frozen=True, eq=False)
class Shards:
    """The training pictures in a folder of shards; what `training.fit` needs of an `ImageBank`.

    Attributes
    ----------
    name, hash : str
        The folder's name; SHA-256 (hex) over the shards, the size and the number of workers.
    root : Path
    counts : dict of int
        Shard -> number of pictures.
    size : int
        Side of the pictures in pixels.
    workers : int
        Processes that decode for each training process. The order of reading depends on it, as each reads shards of its
        own.
    """

    name: str
    hash: str
    root: Path
    counts: dict[str, int]
    size: int
    workers: int

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def train(self) -> ImageSet:
        """A sample of the pictures, 1,000 at most, to count colours in; all others come from `stream`."""
        return self._sample

    @property
    def images(self) -> np.ndarray:
        return self._sample.images

    @cached_property
    def _sample(self) -> ImageSet:
        pictures = itertools.islice((x for shard in self.counts for x in _pictures(self.root / shard)), _SAMPLE)
        decoded = [(key, fit(_decoded(content, self.root, key), self.size)) for key, content in pictures]
        return ImageSet(np.stack([pixels for _, pixels in decoded]), tuple(key for key, _ in decoded))

    def stream(
        self, step: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[np.ndarray]:
        """The pictures of this process from `step` on, without end, as `batch` crops them.

        Shards are visited in a new order every epoch, and their pictures in a new order every time. Worker w of process
        `rank` reads every (workers x world_size)-th of them; the batches of the workers take turns.

        Parameters
        ----------
        step : int
            Batches that were taken already. They are skipped by counting, and only the last shard is opened for it.
        batch_size : int
            Of all processes together.
        seed, rank, world_size : int

        Yields
        ------
        uint8 array (batch_size // world_size, S, S, 3)

        Raises
        ------
        ValueError
            If there are fewer shards than workers, or a picture cannot be read; the message names it.
        """
        lanes = max(1, self.workers) * world_size
        require(len(self.counts) >= lanes, "workers", f"at most {len(self.counts)} in all, one a shard", lanes)
        share = batch_size // world_size
        require(share * world_size == batch_size > 0, "batch_size", f"a multiple of {world_size}", batch_size)
        reader = _Reader(self, step, share, seed, rank, world_size)
        # A generator of its own: a loader draws from the default one when it starts, and a resumed run starts again.
        loader = DataLoader(reader, None, num_workers=self.workers, generator=torch.Generator().manual_seed(0))
        return (pictures.numpy() for pictures in loader)


def shards(path: str | os.PathLike, size: int | None = None, workers: int = 2) -> Shards:
    """The shards in a folder that `write_shards` made.

    Parameters
    ----------
    path : path
    size : int, optional
        Side of the pictures in pixels; that of the shards by default.
    workers : int
        See `Shards`; 0 decodes in the training process.

    Raises
    ------
    ValueError
        If there is no index, a shard that it names is missing, or `workers` is negative.
    """
    root = Path(path).expanduser()
    require((root / INDEX).is_file(), "path", f"a folder with {INDEX}, as write_shards makes it", path)
    require(workers >= 0, "workers", "at least 0", workers)
    index = read_json(root / INDEX)
    missing = [name for name in index["shards"] if not (root / name).is_file()]
    require(not missing, "path", "every shard of the index", f"no {missing[:3]}")
    size = index["size"] if size is None else size
    identity = [size, workers, {name: about["sha256"] for name, about in index["shards"].items()}]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    counts = {name: about["pictures"] for name, about in index["shards"].items()}
    return Shards(root.resolve().name, digest, root, counts, size, workers)


def write_shards(
    source: str | os.PathLike, out: str | os.PathLike, size: int = 256, per_shard: int = 1000, seed: int = 0
) -> Path:
    """Write the colour pictures below a folder as shards, in a random order, whole or not at all.

    Parameters
    ----------
    source, out : path
        `out` must not be there yet.
    size : int
        The centre square of every picture is resized to it, and kept as JPEG of quality 95.
    per_shard : int
        Pictures a shard.
    seed : int
        Of the order.

    Returns
    -------
    Path
        `out`.

    Warns
    -----
    UserWarning
        Saying how many files were left out, as they are grey or cannot be decoded.

    Raises
    ------
    ValueError
        If `source` has no pictures, `out` is there, or a number is not positive.
    """
    import webdataset

    source, out = Path(source).expanduser(), Path(out).expanduser()
    require(source.is_dir(), "source", "a folder", source)
    require(not out.exists(), "out", "a folder that is not there yet", out)
    require(size > 0 and per_shard > 0, "per_shard" if size > 0 else "size", "at least 1", min(size, per_shard))
    names = pictures_below(source)
    require(len(names) > 0, "source", "a folder with pictures", f"{source}, which has none")
    order = np.random.default_rng(seed).permutation(len(names))
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    kept = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        encoded = pool.map(lambda i: _encoded(source / names[i], size), order)
        pattern = str(temporary / "%06d.tar")
        with webdataset.ShardWriter(pattern, maxcount=per_shard, maxsize=1 << 40, verbose=0) as writer:
            for content in tqdm(encoded, f"packing {source.name}", len(order), unit="file", disable=len(order) <= 200):
                if content is not None:
                    writer.write({"__key__": f"{kept:09}", "jpg": content})
                    kept += 1
    require(kept > 0, "source", "at least one picture in colour", f"{len(names)} grey or unreadable files")
    if kept < len(names):
        warnings.warn(f"{source.name}: left out {len(names) - kept} grey or unreadable files", stacklevel=2)
    files = sorted(temporary.glob("*.tar"))
    counts = [min(per_shard, kept - i * per_shard) for i in range(len(files))]
    about = {
        file.name: {"pictures": n, "sha256": cache.sha256(file)} for file, n in zip(files, counts, strict=True) if n > 0
    }
    write_json(temporary / INDEX, {"size": size, "shards": about})
    temporary.rename(out)
    return out


class _Reader(IterableDataset):
    """The batches that one process and its workers read, from `step` on."""

    def __init__(self, source: Shards, step: int, share: int, seed: int, rank: int, world_size: int) -> None:
        self.source, self.step, self.share, self.seed = source, step, share, seed
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[np.ndarray]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        # Workers take turns from the first on, whatever the step: the next batch is that of lane step % workers.
        lane = (self.step + worker) % workers
        taken = len(range(lane, self.step, workers))
        pictures = self._pictures(self.rank * workers + lane, workers * self.world_size, taken * self.share)
        while True:
            yield np.stack([next(pictures) for _ in range(self.share)])

    def _pictures(self, lane: int, lanes: int, skipped: int) -> Iterator[np.ndarray]:
        """The pictures of every `lanes`-th shard, but for the first `skipped`."""
        names = list(self.source.counts)
        for epoch in itertools.count():
            order = np.random.default_rng([self.seed, epoch]).permutation(len(names))
            for shard in order[lane::lanes]:
                count = self.source.counts[names[shard]]
                if skipped >= count:
                    skipped -= count
                    continue
                path = self.source.root / names[shard]
                packed = list(_pictures(path))
                require(len(packed) == count, str(path), f"{count} pictures, as {INDEX} says", len(packed))
                for i in np.random.default_rng([self.seed, epoch, shard]).permutation(count)[skipped:]:
                    yield fit(_decoded(packed[i][1], path, packed[i][0]), self.source.size)
                skipped = 0


def _pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    """Key and file content of the pictures in a shard."""
    import webdataset

    whole = {"shardshuffle": False, "nodesplitter": None, "workersplitter": None, "empty_check": False}
    for sample in webdataset.WebDataset(str(path), **whole):
        content = next((value for key, value in sample.items() if not key.startswith("__")), None)
        if content is not None:
            yield sample["__key__"], content


def _decoded(content: bytes, path: Path, key: str) -> np.ndarray:
    try:
        return decode(content)
    except ValueError as error:
        raise ValueError(f"{path}: {key}: {error}") from None


def _encoded(path: Path, size: int) -> bytes | None:
    """A picture of `size` as JPEG, or None if it is grey or cannot be decoded."""
    try:
        pixels = fit(read(path), size)
    except (OSError, ValueError):
        return None
    if max_chroma(pixels) <= GREY_CHROMA:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
