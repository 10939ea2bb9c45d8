"""What a step depends on, hashes that follow it, and files that are whole or not there."""

import json
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

import colorstudy
from colorstudy import _provenance
from colorstudy._files import read_json, replacing, write_json, write_text
from colorstudy._provenance import PACKAGE, code_hash, digest, provenance, sources


def names(code):
    """The files that the code uses, relative to the package."""
    return {path.relative_to(_provenance.PACKAGE).as_posix() for path in sources(code)}


# --- sources and their hash ---


def test_sources_of_a_leaf_are_few():
    assert names("import colorstudy.color") == {"__init__.py", "_checks.py", "color.py"}
    assert names("from colorstudy import color") == names("import colorstudy.color")
    assert names("from colorstudy.color import srgb_to_lab as f") == names("import colorstudy.color")
    assert names("import colorstudy.color as c, numpy") == names("import colorstudy.color")


def test_sources_are_transitive_and_no_more():
    found = names("from colorstudy.training import fit")
    assert {"__init__.py", "training.py", "runs.py", "_provenance.py", "_files.py"} <= found
    assert {"model.py", "methods.py", "targets.py", "bins.py", "color.py", "prior.py"} <= found
    assert {f"networks/{name}.py" for name in ("__init__", "compact", "zhang", "_layers", "_trunk")} <= found
    assert {f"data/{name}.py" for name in ("__init__", "bank", "batches", "build", "published", "readers")} <= found
    assert not found & {"metrics.py", "study/evaluation.py", "colorize.py", "cli.py"}
    assert not [name for name in found if name.startswith(("study/", "video/", "trial/", "experiments/"))]
    assert "metrics.py" in names("import colorstudy.study.evaluation")


@pytest.mark.parametrize(
    "code",
    ["", "import numpy as np\nfrom torch import nn", "x = 'import colorstudy.color'", "import colorstudyx.color"],
)
def test_other_code_has_no_sources(code):
    assert sources(code) == []


def test_imports_anywhere_count():
    inside = "def f():\n    if True:\n        from colorstudy import color\n"
    assert names(inside) == names("import colorstudy.color")


def test_nothing_beside_the_installed_package_is_read(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "colorstudy", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (tmp_path / "filelock").mkdir()  # a namespace package, which ModuleFinder cannot read
    program = (
        "from colorstudy._provenance import PACKAGE, sources as s; print(PACKAGE, len(s('import colorstudy.training')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "colorstudy"), str(len(sources("import colorstudy.training")))]


def test_a_subpackage_brings_its_init():
    assert {"__init__.py", "data/__init__.py", "data/readers.py"} <= names("from colorstudy.data.readers import read")
    assert sources("import colorstudy") == [PACKAGE / "__init__.py"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package that may be changed."""
    root = tmp_path / "colorstudy"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_provenance, "PACKAGE", root)
    return root


def test_the_hash_is_of_the_sources_alone(copy, monkeypatch):
    here = {module: code_hash(module) for module in ("colorstudy.color", "colorstudy.training")}
    monkeypatch.setattr(_provenance, "PACKAGE", PACKAGE)
    assert here == {module: code_hash(module) for module in here}  # wherever the package lies
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in here.values())
    assert here["colorstudy.color"] != here["colorstudy.training"]


def test_the_hash_follows_every_source_and_no_other(copy):
    before = {module: code_hash(module) for module in ("colorstudy.color", "colorstudy.training")}
    with open(copy / "metrics.py", "a") as file:
        file.write("\nX = 1\n")
    assert {module: code_hash(module) for module in before} == before
    with open(copy / "data" / "readers.py", "a") as file:
        file.write("\nX = 1\n")
    assert code_hash("colorstudy.color") == before["colorstudy.color"]
    assert (changed := code_hash("colorstudy.training")) != before["colorstudy.training"]
    with open(copy / "_checks.py", "a") as file:
        file.write("\nX = 1\n")
    assert code_hash("colorstudy.color") != before["colorstudy.color"]
    assert code_hash("colorstudy.training") not in (changed, before["colorstudy.training"])


def test_a_new_import_is_followed(copy):
    (copy / "extra.py").write_text("X = 1\n")
    assert "extra.py" not in names("import colorstudy.color")
    with open(copy / "_checks.py", "a") as file:
        file.write("\nfrom colorstudy.extra import X\n")
    assert "extra.py" in names("import colorstudy.color")


def test_imports_in_a_circle_end(copy):
    (copy / "one.py").write_text("import colorstudy.two\n")
    (copy / "two.py").write_text("import colorstudy.one\n")
    assert names("import colorstudy.one") == {"__init__.py", "one.py", "two.py"}


OWN = '''
class Net:
    """A network of somebody else."""

    def size(self):
        return 3  # pixels
'''


def test_the_hash_follows_files_that_are_not_ours(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_hashed.py"
    file.write_text(OWN)
    ours, before = code_hash("colorstudy.color"), code_hash("colorstudy.color", "own_hashed:Net")
    assert before != ours == code_hash("colorstudy.color", "compact", "regression")  # registered names are ours
    file.write_text(OWN.replace("  # pixels", "").replace("else.", "other."))
    assert code_hash("colorstudy.color", "own_hashed:Net") == before
    file.write_text(OWN.replace("3", "4"))
    assert code_hash("colorstudy.color", "own_hashed:Net") != before
    with pytest.raises(ValueError, match=r"expected something that Python can import, got 'own_nowhere:Net'"):
        code_hash("colorstudy.color", "own_nowhere:Net")


def test_a_package_that_hands_a_class_on_counts_with_the_file_of_the_class(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "own_package" / "__init__.py", "from own_package.net import Net\n")
    write_text(tmp_path / "own_package" / "net.py", OWN)
    before = code_hash("colorstudy.color", "own_package:Net")
    write_text(tmp_path / "own_package" / "net.py", OWN.replace("3", "4"))
    assert code_hash("colorstudy.color", "own_package:Net") != before


def test_a_class_of_the_script_that_runs_hashes_like_that_of_a_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_script.py"
    file.write_text(OWN)
    script = ModuleType("__main__")
    script.__file__ = str(file)
    exec(OWN, vars(script))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "__main__", script)
        running = code_hash("colorstudy.color", "own_script:Net")
        assert "own_script" not in sys.modules
    assert code_hash("colorstudy.color", "own_script:Net") == running
    file.write_text(OWN.replace("3", "4"))
    assert code_hash("colorstudy.color", "own_script:Net") != running


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    assert digest({"a": 1}) == "f9d86028c6e0d64e"  # echo -n '{"a": 1}' | sha256sum


# --- provenance ---


def test_provenance_says_where_a_number_comes_from():
    found = provenance()
    assert set(found) == {"commit", "dirty", "device", "machine", "threads", "versions"}
    assert {"python", "colorstudy", "torch", "numpy", "safetensors", "lightning-fabric"} <= set(found["versions"])
    assert found["versions"]["colorstudy"] == colorstudy.__version__
    assert found["threads"] >= 1
    assert json.loads(json.dumps(found)) == found


def git(folder, *words):
    options = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *options, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_commit_and_dirt(copy):
    root = copy.parent
    assert (provenance()["commit"], provenance()["dirty"]) == (None, None)  # no checkout
    git(root, "init", "-q")
    git(root, "add", "colorstudy")
    git(root, "commit", "-q", "-m", "all")
    assert (provenance()["commit"], provenance()["dirty"]) == (git(root, "rev-parse", "HEAD"), False)
    write_text(root / "results" / "x.csv", "1")
    assert provenance()["dirty"] is False  # results are no dirt
    write_text(copy / "color.py", "changed")
    assert provenance()["dirty"] is True


def test_a_checkout_around_an_installed_package_is_not_its_own(copy):
    git(copy.parent.parent, "init", "-q")
    assert provenance()["commit"] is None


def test_without_git(copy, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert (provenance()["commit"], provenance()["dirty"]) == (None, None)


# --- files ---


def test_replacing_writes_whole_files(tmp_path):
    path = tmp_path / "new" / "deep" / "a.json"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json" and temporary != path
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]
    write_text(path, "zwö")
    assert path.read_bytes() == "zwö".encode() and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_leaves_the_old_file_when_it_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half(target):
        with replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write_half(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(error):
        write_half(tmp_path / "never")
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_needs_something_written(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_writers_do_not_meet(tmp_path):
    with replacing(tmp_path / "a.txt") as one, replacing(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("one"), two.write_text("two")
    assert (tmp_path / "a.txt").read_text() == "one" and len(list(tmp_path.iterdir())) == 1


def test_json_comes_back(tmp_path):
    content = {"name": "Süsstrunk", "values": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")
    write_text(tmp_path / "a.json", '{"name": ')
    with pytest.raises(ValueError, match=r"a\.json: expected JSON, got "):
        read_json(tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", {"x": object()})
    assert not (tmp_path / "b.json").exists()
