"""Pictures by the million: tar files ("shards") of JPEGs, in webdataset's format, but with an exact resume."""

import io
import tarfile
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy._files import read_json, sha256, write_json
from colorstudy.data import ImageBank, read
from colorstudy.data.readers import colorful, fit, pictures_below

INDEX = "shards.json"  # the file beside the shards that says how many pictures each holds


class Shards:
    """The training pictures in a folder that `write_shards` made, as squares of `size` pixels, by default theirs."""

    def __init__(self, path: str | Path, size: int | None = None) -> None:
        self.root = Path(path).expanduser()
        require((self.root / INDEX).is_file(), "path", f"a folder with {INDEX}, as write_shards makes it", path)
        index = read_json(self.root / INDEX)
        self.counts: dict[str, int] = {name: about["pictures"] for name, about in index["shards"].items()}
        missing = [name for name in self.counts if not (self.root / name).is_file()]
        require(not missing, "path", "every shard of the index", f"no {missing[:3]}")
        self.name, self.size = self.root.resolve().name, index["size"] if size is None else size
        self.hash = f"{sha256(self.root / INDEX)}-{self.size}"
        names, contents = zip(*islice(chain.from_iterable(map(self._packed, self.counts)), 1000))
        self.images = np.stack([*map(self._decoded, names, contents)])  # uint8 (N, S, S, 3), to count colours in
        self.train = ImageBank(self.name, self.images, names, ("train",) * len(names), self.hash)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def stream(
        self, step: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[np.ndarray]:
        """The batches of this process from `step` on, without end: uint8 (batch_size // world_size, S, S, 3).

        Every epoch a process reads every `world_size`-th shard of a new order, and the pictures of each in a new order.
        Steps that were taken are skipped by counting, and only the last shard is opened for it.
        """
        shards, share = [*self.counts], batch_size // world_size
        require(world_size <= len(shards), "world_size", f"at most {len(shards)}, one a shard", world_size)
        require(share * world_size == batch_size > 0, "batch_size", f"a multiple of {world_size}", batch_size)
        skipped = step * share
        coming: deque[Future] = deque()
        with ThreadPoolExecutor() as pool:
            for epoch in count():
                for i in np.random.default_rng([seed, epoch]).permutation(len(shards))[rank::world_size]:
                    order = np.random.default_rng([seed, epoch, i]).permutation(self.counts[shards[i]])
                    packed = self._packed(shards[i]) if skipped < len(order) else []
                    for k in order[skipped:]:
                        coming.append(pool.submit(self._decoded, *packed[k]))
                        if len(coming) == 2 * share:  # the second half is decoded while the first is trained on
                            yield np.stack([coming.popleft().result() for _ in range(share)])
                    skipped = max(0, skipped - len(order))

    def _packed(self, shard: str) -> list[tuple[str, bytes]]:
        """Name and content of the files in a shard."""
        with tarfile.open(self.root / shard) as tar:
            packed = [(f"{shard}/{member.name}", file.read()) for member in tar if (file := tar.extractfile(member))]
        require(len(packed) == self.counts[shard], shard, f"{self.counts[shard]} pictures, as in {INDEX}", len(packed))
        return packed

    def _decoded(self, name: str, content: bytes) -> np.ndarray:
        try:
            return fit(read(content), self.size)
        except ValueError as error:
            raise ValueError(f"{self.root / name}: {error}") from None


def write_shards(source: str | Path, out: str | Path, size: int = 256, per_shard: int = 1000, seed: int = 0) -> Path:
    """Write the colour pictures below a folder as shards to a new folder `out`, whole or not at all, in a random order.

    They become centre squares of `size` pixels, JPEG of quality 95; a warning counts those that are grey or unreadable.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    require(not out.exists(), "out", "a folder that is not there yet", out)
    names = np.random.default_rng(seed).permutation(pictures_below(source))
    about: dict[str, dict] = {}
    with ThreadPoolExecutor() as pool, TemporaryDirectory(dir=out.parent) as folder:
        temporary = Path(folder) / out.name
        temporary.mkdir()
        jpegs = pool.map(lambda name: _jpeg(source / name, size), names)
        usable = enumerate(filter(None, tqdm(jpegs, "packing", len(names), unit="file", disable=len(names) <= 200)))
        while packed := [*islice(usable, per_shard)]:
            shard = temporary / f"{len(about):06}.tar"
            with tarfile.open(shard, "w") as tar:
                for number, content in packed:
                    member = tarfile.TarInfo(f"{number:09}.jpg")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            about[shard.name] = {"pictures": len(packed), "sha256": sha256(shard)}
        left_out = len(names) - sum(shard["pictures"] for shard in about.values())
        require(len(about) > 0, "source", "a folder with pictures in colour", f"{left_out} grey or unreadable files")
        if left_out:
            warnings.warn(f"{source.name}: left out {left_out} grey or unreadable files", stacklevel=2)
        write_json(temporary / INDEX, {"size": size, "shards": about})
        temporary.rename(out)
    return out


def _jpeg(path: Path, size: int) -> bytes:
    """The content of a file, or nothing if the picture is grey or cannot be decoded."""
    pixels, file = colorful(path, size), io.BytesIO()
    if not isinstance(pixels, str):
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
