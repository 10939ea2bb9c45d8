"""Where a number comes from: hashes of code and settings, the commit, the machine and the versions."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import colorstudy

PACKAGE = Path(colorstudy.__file__).parent
_VERSIONS = ("torch", "numpy", "pandas", "scikit-image", "pillow", "lightning-fabric", "torchmetrics", "safetensors")


def digest(content: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of `content` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Commit, dirty flag, versions, device and thread count of this process."""
    commit, dirty = _git()
    return {
        "commit": commit,
        "dirty": dirty,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "colorstudy": colorstudy.__version__} | _versions(),
    }


def sources(code: str) -> list[Path]:
    """Files of the package that Python source `code` uses: what it imports, what that imports, and so on.

    Found by reading import statements, so that a step can name its true inputs: a change to a module that it never
    imports does not make it stale.
    """
    found: set[Path] = set()
    waiting = _imported(code, "colorstudy")
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            package = ".".join(["colorstudy", *path.relative_to(PACKAGE).parts[:-1]])
            waiting |= _imported(path.read_text(encoding="utf-8"), package)
    return sorted(found)


def code_hash(module: str) -> str:
    """A hash of what `module` and all package modules that it uses do: their code without comments and docstrings."""
    return digest({path.relative_to(PACKAGE).as_posix(): _code(path) for path in sources(f"import {module}")})


def _code(path: Path) -> str:
    """The code of a file as Python reads it: no comments, no layout, no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _imported(code: str, package: str) -> set[Path]:
    """Files of the package that the import statements of `code`, a module of `package`, name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "colorstudy":
            # Importing a.b.c runs the __init__ of a and a.b too.
            for depth in range(1, len(parts) + 1):
                place = PACKAGE.joinpath(*parts[1:depth])
                found |= {path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()}
    return found


@lru_cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional one
            continue
    return found


def _git() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that the package lies in; None where it lies in none.

    Results are not counted as dirt: a run would make the next one dirty.
    """

    def ask(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")) != PACKAGE.parent:
            return None, None
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--", ":/", ":(exclude)results"))
    except (OSError, subprocess.SubprocessError):
        return None, None
