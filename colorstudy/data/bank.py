"""`ImageBank`: pictures of one size, split into train, val and test."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from colorstudy._checks import require

SPLITS = ("train", "val", "test")  # to fit, to choose by, to report; in this order in every bank


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Colour pictures of one source by split; `train`, `val` and `test` are a ``ValueError`` if empty."""

    name: str
    images: np.ndarray  # uint8 (N, S, S, 3); a read-only memory map if it comes out of the cache
    names: tuple[str, ...]  # relative to the source
    split: tuple[str, ...]  # one of `SPLITS` of each
    hash: str  # SHA-256 (hex) over names, contents and split of the files, the size, and the version of the decoding
    skipped: dict[str, str] = field(default_factory=dict)  # file -> why it was left out: undecodable, or a repetition
    grey: tuple[str, ...] = ()  # names of pictures left out, as they have hardly a colour

    def __len__(self) -> int:
        return len(self.names)

    @property
    def train(self) -> "ImageBank":
        return self._part("train")

    @property
    def val(self) -> "ImageBank":
        return self._part("val")

    @property
    def test(self) -> "ImageBank":
        return self._part("test")

    def only(self, names: Collection[str]) -> "ImageBank":
        """The pictures called `names`, in the order of this bank; a ``ValueError`` if one is unknown, or none given."""
        wanted, known = set(names), set(self.names)
        expected = f"some of the {len(known)} pictures of {self.name}"
        require(bool(wanted) and wanted <= known, "names", expected, repr(next(iter(wanted - known), "none")))
        kept = [i for i, name in enumerate(self.names) if name in wanted]
        chosen, split = (tuple(column[i] for i in kept) for column in (self.names, self.split))
        digest = hashlib.sha256(json.dumps([self.hash, chosen]).encode()).hexdigest()
        return ImageBank(self.name, self.images[kept], chosen, split, digest)

    def summary(self) -> dict[str, str | int]:
        """Name, hash, size in pixels, and the numbers of training, validation, test, grey and skipped pictures."""
        counts = {split: self.split.count(split) for split in SPLITS}
        counts |= {"grey": len(self.grey), "skipped": len(self.skipped)}
        return {"name": self.name, "hash": self.hash, "size": self.images.shape[1], **counts}

    def _part(self, split: str) -> "ImageBank":
        count = self.split.count(split)
        require(count > 0, self.name, f"at least one {split} picture", f"none among {len(self.names)}")
        part = slice(self.split.index(split), self.split.index(split) + count)
        digest = hashlib.sha256(f"{self.hash} {split}".encode()).hexdigest()
        return ImageBank(self.name, self.images[part], self.names[part], self.split[part], digest)
