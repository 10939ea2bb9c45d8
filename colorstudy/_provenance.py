"""Where a number comes from: hashes of code and settings, the commit, the machine and the versions."""

import ast
import hashlib
import inspect
import json
import platform
import subprocess
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import torch

import colorstudy
from colorstudy._checks import resolve

PACKAGE = Path(colorstudy.__file__).parent
_VERSIONS = ("torch", "numpy", "pandas", "scikit-image", "pillow", "lightning-fabric", "safetensors")


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
        "versions": {"python": platform.python_version(), "colorstudy": colorstudy.__version__}
        | {name: version(name) for name in _VERSIONS},
    }


def sources(code: str) -> list[Path]:
    """Files of the package that Python source `code` imports, however indirectly, and the tables beside these."""
    # Site-packages hold torch and more: to follow that takes long, and some of it cannot be followed.
    others = {path.name.partition(".")[0] for path in PACKAGE.parent.iterdir()} - {PACKAGE.name}
    finder = ModuleFinder([str(PACKAGE.parent)], excludes=others)
    finder.scan_code(compile(code, "<code>", "exec"), finder.add_module("__main__"))
    own = [Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None))]
    return sorted([*own, *(table for path in own if (table := path.with_suffix(".csv")).is_file())])


def code_hash(module: str, *own: str) -> str:
    """A hash of what `module` and all package modules that it uses do: their code without comments and docstrings.

    Those of `own` that are import paths "package.module:Name", of things that are not ours, count with their files.
    """
    code = {path.relative_to(PACKAGE).as_posix(): _code(path) for path in sources(f"import {module}")}
    code |= {path: _code(Path(inspect.getfile(resolve(path, "own")))) for path in own if ":" in path}
    return digest(code)


def _code(path: Path) -> str:
    """The code of a file as Python reads it: no comments, no layout, no docstrings; of a table all."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _git() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the package's checkout, or None; results are no dirt, as each run makes some."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")) != PACKAGE.parent:
            return None, None
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--", ":/", ":(exclude)results"))
    except (OSError, subprocess.SubprocessError):
        return None, None
