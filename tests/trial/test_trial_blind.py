"""An outsider who has all of a page and its code, but not the key: each attack is as good as a coin."""

import hashlib
from collections import defaultdict

import numpy as np
from PIL import Image

from colorstudy.trial import page
from colorstudy.trial.design import SIDES, Design, sessions
from colorstudy.trial.page import build, read_script

DESIGN = Design(practice=10, trials=90, size=16)
NAMES = [f"p{i}" for i in range(105)]


def trial(folder, count, secret):
    """The key of a trial of two methods, whose fakes are smoother than the truth."""
    rng = np.random.default_rng(0)
    true = {name: rng.integers(60, 200, (16, 16, 3)).astype(np.uint8) for name in NAMES}
    fakes = {
        method: {n: (i.mean(-1, keepdims=True) * share + 40).repeat(3, -1).astype(np.uint8) for n, i in true.items()}
        for method, share in {"l2": 0.7, "full": 0.6}.items()
    }
    return build(folder / "page", true, fakes, count, DESIGN, secret=secret)


class Outsider:
    """What a page shows, and the share of the pairs that count in which an attack finds the fake."""

    def __init__(self, folder):
        self.pairs = {}  # session, trial -> the two files, the side that is shown first, what practice tells
        for script in folder.glob("sessions/*.js"):
            content = read_script(script)
            for number, pair in enumerate(content["trials"]):
                files = [folder / pair[side] for side in SIDES]
                self.pairs[content["session"], number] = files, pair["first"], pair.get("fake")
        self.content = {file: file.read_bytes() for files, *_ in self.pairs.values() for file in files}
        self.build = read_script(folder / "data.js")["build"]

    def score(self, key, attack):
        """Where an attack says None, a coin is tossed."""
        truth, rng = key.set_index(["session", "trial"])["fake_side"], np.random.default_rng(1)
        told = {pair: attack(pair) or SIDES[rng.integers(2)] for pair in sorted(self.pairs) if not self.pairs[pair][2]}
        return np.mean([truth[pair] == side for pair, side in told.items()]), len(told)

    def less(self, measure):
        """The fake is the file that measures less."""

        def attack(pair):
            left, right = map(measure, self.pairs[pair][0])
            return None if left == right else SIDES[left > right]

        return attack

    def met_again(self, mark):
        """What practice told of a picture; or else the truth is what has more different partners."""
        marks = {file: mark(file) for file in self.content}
        known, partners = {}, defaultdict(set)
        for (left, right), _, fake in self.pairs.values():
            partners[marks[left]].add(marks[right])
            partners[marks[right]].add(marks[left])
            if fake:
                known |= {marks[left]: fake != "left", marks[right]: fake != "right"}
        return self.less(lambda file: (known.get(marks[file], 0.5), len(partners[marks[file]])))

    def attacks(self):
        """By name: a pair's session and number -> the side of the fake, or None."""
        for seed in ("", "0", "None", self.build):
            plan = sessions(DESIGN, NAMES, ["l2", "full"], 60, seed).set_index(["session", "trial"])["fake_side"]
            yield f"key of the public code, seed {seed[:8]!r}", plan.get
        measures = {
            "length of the file": lambda file: len(self.content[file]),
            "length up to the end marker": lambda file: len(self.stream(file)),
            "name": lambda file: file.name,
            "time and mode": lambda file: (file.stat().st_mtime, file.stat().st_mode),
            "inode, given by the disk": lambda file: file.stat().st_ino,
            "header": lambda file: self.content[file][:54],
            "metadata": lambda file: sorted(map(str, Image.open(file).info.items())),
            "tables of JPEG": lambda file: str(getattr(Image.open(file), "quantization", None)),
        }
        yield from {name: self.less(measure) for name, measure in measures.items()}.items()
        yield "bytes met again", self.met_again(self.content.get)
        yield "streams met again", self.met_again(self.stream)
        yield "pixels met again", self.met_again(lambda f: hashlib.sha256(Image.open(f).tobytes()).digest())
        yield "the first is fake", lambda pair: self.pairs[pair][1]

    def stream(self, file):
        """What comes before the end marker, where a format has one."""
        content = self.content[file]
        return content[: content.rindex(b"\xff\xd9")] if content.startswith(b"\xff\xd8") else content


def test_an_outsider_is_as_good_as_a_coin(tmp_path):
    """100 pairs, 60 sessions: 5,400 pairs that count; each attack is within its 95 % interval."""
    key = trial(tmp_path, 60, "drawn for this test")
    outsider = Outsider(tmp_path / "page")
    found = {name: outsider.score(key, attack) for name, attack in outsider.attacks()}
    print(*(f"{name}: {share:.4f} of {n}" for name, (share, n) in found.items()), sep="\n")
    assert len(found) == 16 and {n for _, n in found.values()} == {5400}
    sigmas = {name: 4 if "disk" in name else 1.96 for name in found}  # a disk tosses other coins at each run
    assert {name: share for name, (share, n) in found.items() if abs(share - 0.5) > sigmas[name] * 0.5 / n**0.5} == {}


def test_the_attacks_see_through_files_as_they_used_to_be(tmp_path, monkeypatch):
    """JPEG files that are alike wherever a picture is shown, filled up to one length, with sides by a known seed."""

    def write(path, image, rng):
        Image.fromarray(image).save(path, "JPEG", quality=95, subsampling=0)
        path.write_bytes(path.read_bytes().ljust(2000, b"\0"))

    monkeypatch.setattr(page, "_write", write)
    key = trial(tmp_path, 12, "0")
    outsider = Outsider(tmp_path / "page")
    found = {name: outsider.score(key, attack)[0] for name, attack in outsider.attacks()}
    tell = {name for name, share in found.items() if share > 0.8}
    assert tell == {"key of the public code, seed '0'", "length up to the end marker", "bytes met again",
                    "streams met again", "pixels met again"}  # fmt: skip


def test_what_is_told_in_practice_is_never_asked():
    """Nor is a picture shown twice in a session, or a picture of a catch pair, which is easy to tell, as another."""
    key = sessions(DESIGN, NAMES, ["l2", "full"], 60, "any")
    assert not key.duplicated(["session", "picture"]).any()
    shown = key.groupby(["phase", "kind"])["picture"].agg(set)
    assert len(shown) == 3 and sum(map(len, shown)) == len(set.union(*shown))


def test_the_key_alone_knows_the_secret(tmp_path):
    """Published afterwards, it proves the key, as the page had its hash."""
    key = trial(tmp_path, 2, None)
    again, other = (trial(tmp_path / name, 2, secret) for name, secret in [("a", key["secret"][0]), ("b", None)])
    assert key.equals(again) and len(key["secret"][0]) == 32
    assert (key["fake_side"] != other["fake_side"]).any() and key["secret"][0] != other["secret"][0]
    assert hashlib.sha256(key["secret"][0].encode()).hexdigest() == read_script(tmp_path / "page" / "data.js")["build"]
    assert (tmp_path / "page.key.csv").stat().st_mode & 0o777 == 0o600
    for path in (tmp_path / "page").rglob("*.*"):
        assert key["secret"][0].encode() not in path.read_bytes()
