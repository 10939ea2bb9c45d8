"""The Binder badge of the repository that pyproject.toml names, if it names one.

The site's home has it then; ``python docs/badge.py`` prints it for the README.
"""

import re
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]


def repository(pyproject: str) -> str:
    """The address in ``[project.urls]``, "" if there is none."""
    found = re.search(
        r'^\[project\.urls\]\n(?:(?!\[).*\n)*?repository = "(\S+)"$', pyproject, re.IGNORECASE | re.MULTILINE
    )
    return found[1].removesuffix("/").removesuffix(".git") if found else ""


def badge(url: str) -> str:
    """Markdown of the badge that opens the notebooks of the repository at `url`, "" of none.

    The paths are Binder's: owner and name on GitHub, else the whole address, on any host, of the default branch.
    """
    on_github = url.removeprefix("https://github.com/")
    place = f"gh/{on_github}" if on_github != url else f"git/{quote(url, safe='')}"
    link = f"https://mybinder.org/v2/{place}/HEAD?urlpath=lab/tree/notebooks"
    return f"[![Binder](https://mybinder.org/badge_logo.svg)]({link})" if url else ""


BADGE = badge(repository((ROOT / "pyproject.toml").read_text(encoding="utf-8")))

if __name__ == "__main__":
    print(BADGE or 'pyproject.toml names no repository: add [project.urls] with Repository = "https://..."')
