"""Writing files so that a reader, or a killed process, never meets half of one."""

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save

from colorstudy._checks import require


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it doesn't.

    Parents are made. The name, short enough for any system, keeps the suffix, by which many writers choose a format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as readable JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` as a safetensors file, whole or not at all; every failure is an ``OSError`` that names it."""
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with replacing(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:  # a full disk, for instance
            raise OSError(f"{path}: expected to be written, got {error}") from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, a mapping, or a ``ValueError`` that names it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    require(isinstance(content, dict), str(path), "a mapping", f"{content!r:.40}")
    return content


def table_of(module: str | Path) -> list[dict[str, str]]:
    """The rows of the table that lies beside a module file, under its name: ``methods.csv`` beside ``methods.py``."""
    with open(Path(module).with_suffix(".csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cache_dir(path: str | os.PathLike | None = None) -> Path:
    """`path`, or by default ``$COLORSTUDY_CACHE``, ``$XDG_CACHE_HOME/colorstudy`` or ``~/.cache/colorstudy``."""
    path = path or os.environ.get("COLORSTUDY_CACHE")
    return Path(path or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "colorstudy").expanduser()


def sha256(path: str | os.PathLike, known: dict[str, str] | None = None) -> str:
    """The SHA-256 of a file's content, in hex; out of `known`, where inode, size and times are the same as then."""
    name, now = os.fspath(path), os.stat(path)  # before it is read: what is written meanwhile shows next time
    look = f"{now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} "
    if known is not None and known.get(name, "").startswith(look):
        return known[name].removeprefix(look)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if known is not None:
        known[name] = look + digest.hexdigest()
    return digest.hexdigest()
