"""Fixtures that several test files use."""

import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("COLORSTUDY_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def reference():
    """Reads a published array, or the text of a table; its test skips where the reference files are absent."""

    def read(name):
        path = SHARED / "reference" / name
        if not path.exists():
            pytest.skip(f"{name} is not here; set COLORSTUDY_SHARED to the folder that holds reference/")
        return np.load(path) if path.suffix == ".npy" else path.read_text(encoding="utf-8")

    return read
