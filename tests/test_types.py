"""The annotations are true."""

import subprocess
import sys
from pathlib import Path


def test_mypy_finds_nothing():
    """A test of its own file, so that it runs beside the others."""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
