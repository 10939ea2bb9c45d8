"""The page of `colorstudy demo`: whole, of itself, with pictures that decode and scores that are theirs."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorstudy.cli import main
from colorstudy.color import split, to_tensor
from colorstudy.colorize import WEIGHTS
from colorstudy.metrics import auc, mean_chroma


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "new" / "demo.html"
    assert main(["demo", "-o", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def cells(page):
    """The rows of the table: (picture, text) of each cell; heads have no picture."""
    rows = []
    for row in re.findall(r"<tr>(.*?)</tr>", page):
        found = [re.fullmatch(r'(?:<img [^>]*src="([^"]*)"><br>)?(.*)', cell).groups() for cell in
                 re.findall(r"<td>(.*?)</td>", row)]  # fmt: skip
        rows.append([(pixels(source) if source else None, text) for source, text in found])
    return rows


def pixels(source):
    kind, _, content = source.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(content, validate=True))))


def test_the_page_refers_to_nothing_outside(page):
    sources = re.findall(r"""(?:src|href|url|action|data)\s*[=(]\s*["']?([^"')\s>]{5})""", page)
    assert sources and set(sources) == {"data:"}
    assert not re.search(r"https?:|<script|<link|@import|<iframe", page) and len(page) < 2_000_000


def test_every_model_of_the_package_is_shown_between_grey_and_truth(page):
    heads, *rows = cells(page)
    names = [re.match(r"[\w-]+(?: \(default\))?", text)[0] for _, text in heads]
    assert names[0] == "grey" and names[-2].endswith(" (default)") and names[-1] == "truth"
    assert {name.removesuffix(" (default)") for name in names[1:-1]} >= {file.stem for file in WEIGHTS.iterdir()} - {
        "README"
    }
    assert len(rows) == 4 and all(len(row) == len(heads) for row in rows)


def test_pictures_decode_and_have_the_scores_under_them(page):
    (_, *rows), counts = cells(page), []
    for row in rows:
        true = row[-1][0]
        assert max(true.shape[:2]) == 384 and true.std() > 20
        assert np.ptp(row[0][0].astype(int), axis=2).max() <= 8  # grey, as far as JPEG goes
        assert row[0][1].endswith("chroma 0.00") and row[-1][1] == "AuC 1.000, chroma 1.00"
        for image, text in row:
            score, share = map(float, re.fullmatch(r"AuC (\S+), chroma (\S+)", text).groups())
            chroma, truth = (split(to_tensor(one[None]))[1] for one in (image, true))
            assert auc(chroma, truth).item() == pytest.approx(score, abs=0.006)  # JPEG is lossy
            assert (mean_chroma(chroma) / mean_chroma(truth)).item() == pytest.approx(share, abs=0.06)
        counts.append(len({image.tobytes() for image, _ in row}))
    assert counts == [len(rows[0])] * 4


def test_a_page_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["demo", "-o", str(tmp_path / "file" / "demo.html")]) == 2
    assert capsys.readouterr().err.startswith("colorstudy: error: ") and Path(tmp_path / "file").read_text() == "mine"
