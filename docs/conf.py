"""The site: `make docs`. With the tag `paper`, the paper alone, as one page to print: `make paper`.

The source is the whole checkout, so that a link means the same here and in a viewer of the repository. Notebooks are
shown as they are committed; only the paper runs, and it reads nothing but result files.
"""

import os
import re
import sys
from pathlib import Path

from docutils.utils.math import latex2mathml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # of the paper's kernel

from badge import BADGE  # noqa: E402

from colorstudy import __version__ as release  # noqa: E402

sys.modules["colorstudy.__main__"] = None  # which autosummary would run

project, author, copyright = "colorstudy", "The colorstudy authors", "The colorstudy authors, MIT licence"
extensions = ["myst_nb", "sphinxcontrib.bibtex"]
exclude_patterns = [".*", "build", "results", "tests", "profiles", "data", "docs/_*"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CONTRIBUTING.md", "CHANGELOG.md", "colorstudy/weights/README.md"]

nb_execution_mode = "off"  # of notebooks; the paper says otherwise in its own head
nb_execution_timeout = 600
nb_execution_show_tb = True  # of a failed cell, as a warning, which `make docs` and `make paper` take for an error
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"
numfig = True
numfig_secnum_depth = 0
numfig_format = {"figure": "Figure %s", "table": "Table %s"}

html_title = f"colorstudy {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_scaled_image_link = False  # in a PDF it would hold a path of the machine that made it
html_math_renderer = "mathml"

if tags.has("paper"):  # noqa: F821  (Sphinx defines it)
    root_doc, include_patterns = "docs/paper", ["docs/paper.md"]
    html_theme, html_css_files, html_sidebars = "basic", ["paper.css"], {}
    html_use_index = html_show_sphinx = False
else:
    html_theme = "furo"
    html_extra_path = ["_extra"]
    # No section of these docstrings has a heading, so neither numpydoc nor Napoleon would have anything to do. Names in
    # single backticks are links, where there is something of that name.
    extensions += ["sphinx.ext.autodoc", "sphinx.ext.autosummary"]
    templates_path = [str(ROOT / "docs" / "_templates")]
    default_role = "py:obj"
    autodoc_default_options = {"members": True, "show-inheritance": True}
    autodoc_typehints = "signature"
    autodoc_member_order = "bysource"
    autodoc_preserve_defaults = True


def mathml(writer, node):
    """An equation as MathML, which browsers show without a network."""
    block = node.tagname == "math_block"
    found = latex2mathml.tex2mathml(node.astext(), as_block=block)
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    writer.body.append(f'<div class="math" id="{node["ids"][0] if node["ids"] else ""}">{number}{found}</div>'
                       if block else found)  # fmt: skip
    from docutils.nodes import SkipNode

    raise SkipNode


def escaped(app, kind, name, found, options, lines):
    """In docstrings a*, Y'UV and |x| are no markup, and what a module sets in columns is literal."""
    text = re.sub(r"(?<![\w*`])(\w{1,2})\*(?![\w`])", r"\1\\*", "\n".join(lines).replace("|", r"\|"))
    text = re.sub(r"(?<=[( ])\*(?=\w*[,)])", r"\\*", text)
    parts = text.split("\n\n")
    for i, part in enumerate(parts):
        if kind == "module" and sum("  " in line.strip() for line in part.splitlines()) > 1:
            parts[i] = "::\n\n" + "\n".join(f"    {line}" for line in part.splitlines())
    lines[:] = "\n\n".join(parts).splitlines()


def badged(app, page, content):
    """The site's home has the badge under its heading."""
    if BADGE and page == root_doc:
        content[0] = content[0].replace("\n", f"\n\n{BADGE}\n", 1)


def setup(app):
    if not app.tags.has("paper"):
        app.connect("autodoc-process-docstring", escaped)
        app.connect("source-read", badged)
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
