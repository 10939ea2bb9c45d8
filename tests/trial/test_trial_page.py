"""The page of a trial: what it gives away, and a whole trial in a real browser."""

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colorstudy import cli
from colorstudy.data import photos
from colorstudy.training import TrainConfig, fit
from colorstudy.trial.analysis import join
from colorstudy.trial.design import OTHER_SIDE, Design
from colorstudy.trial.page import build, read_script, resource
from colorstudy.trial.server import Answers
from colorstudy.trial.widget import Trial

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SMALL = Design(practice=2, trials=4, catch=0.25, rest=2, size=96, exposure=0.25)


def pictures(size, count=13):
    bank = photos(size=size)
    return dict(zip(bank.names[:count], np.array(bank.images[:count])))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A small trial: folder and key."""
    out = tmp_path_factory.mktemp("trial") / "page"
    true = pictures(96)
    return out, build(out, true, {"l2": {name: image[::-1].copy() for name, image in true.items()}}, 6, SMALL)


def data_of(out):
    return read_script(out / "data.js")


def code_of(key, session):
    return key.loc[key["session"] == session, "code"].iloc[0]


class TestBuild:
    def test_the_key_tells_what_each_pair_is(self, page):
        out, key = page
        assert key["session"].nunique() == key["code"].nunique() == len([*(out / "sessions").iterdir()]) == 6
        assert pd.read_csv(out.with_name("page.key.csv"))["build"].eq(data_of(out)["build"]).all()
        sessions = {code: read_script(out / "sessions" / f"{code}.js") for code in key["code"].unique()}
        true = pictures(96)
        for row in key.itertuples():
            assert sessions[row.code]["session"] == row.session
            trial = sessions[row.code]["trials"][row.trial]
            truth, fake = (
                np.asarray(Image.open(out / trial[side])) for side in (OTHER_SIDE[row.fake_side], row.fake_side)
            )
            assert abs(truth.astype(float) - true[row.picture]).max() == 1
            if row.kind == "method":
                assert abs(fake.astype(float) - true[row.picture][::-1]).max() == 1
            assert (trial["first"] == row.fake_side) == row.fake_first
            assert trial.get("fake") == (row.fake_side if row.phase == "practice" else None)

    def test_nothing_comes_from_elsewhere(self, page):
        out, _ = page
        names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.parent == out}
        assert names == {"index.html", "trial.css", "trial.js", "page.js", "data.js", "images", "sessions"}
        for name in ("index.html", "trial.css", "trial.js", "page.js"):
            assert not re.search(r"https?://|//cdn|@import", resource(name))

    def test_text_cannot_end_the_script(self, tmp_path):
        true = pictures(96)
        hostile = "</script><script>alert(1)</script>"
        build(tmp_path / "page", true, {"l2": true}, 1, SMALL, consent=[hostile])
        text = (tmp_path / "page" / "data.js").read_text()
        assert "</script>" not in text and data_of(tmp_path / "page")["consent"] == [hostile]

    def test_repeats_with_a_secret_and_not_without(self, tmp_path):
        true = pictures(96)
        for name, secret in {"a": "1", "b": "1", "c": None, "d": None}.items():
            build(tmp_path / name, true, {"l2": true}, 2, SMALL, secret=secret)
        pages = [
            {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()} for name in "abcd"
        ]
        assert pages[0] == pages[1] and len({page["data.js"] for page in pages}) == 3

    def test_bad_arguments_are_named(self, tmp_path, page):
        true = pictures(96)
        other = pictures(64)
        for arguments, error, named in [
            ((true, {"l2": other}, 2, SMALL), ValueError, r"fakes\['l2'\]: expected uint8 \(96, 96, 3\)"),
            ((true, {"l2": dict([*true.items()][:5])}, 2, SMALL), ValueError, r"fakes\['l2'\]: expected the pictures"),
            ((true, {"l2": true}, 2, Design(size=96)), ValueError, "pictures: expected at least 50"),
            ((true, {}, 2, SMALL), ValueError, "methods: expected"),
        ]:
            with pytest.raises(error, match=named):
                build(tmp_path / "new", *arguments)
        for name in ("post", "origin"):
            with pytest.raises(ValueError, match=rf"{name}: expected an http\(s\) address"):
                build(tmp_path / "new", true, {"l2": true}, 2, SMALL, **{name: "ftp://x"})
        assert not list(tmp_path.iterdir())
        with pytest.raises(FileExistsError, match="out: expected a new folder"):
            build(page[0], true, {"l2": true}, 2, SMALL)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def tab(browser):
    context = browser.new_context(viewport={"width": 900, "height": 700}, accept_downloads=True, has_touch=True)
    tab = context.new_page()
    tab.problems, tab.requests = [], []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("request", lambda request: tab.requests.append(request.url))
    yield tab
    assert tab.problems == []
    context.close()


def click(tab, name):
    button = tab.get_by_role("button", name=name, exact=True)
    button.wait_for()
    button.click()


def begin(tab):
    click(tab, "I agree and take part")
    click(tab, "Start")


def drive(tab, choose, until=None):
    """Answer pair after pair by `choose(tab, number)`; stops at the end, or after `until` answers. How many it was."""
    asks = tab.get_by_text("Which one is fake?")
    goes = tab.get_by_role("button", name=re.compile("^(Go on|Finish)$"))
    done = tab.get_by_text("answers are in")
    answered = 0
    while answered != until:
        asks.or_(goes).or_(done).wait_for()
        if asks.is_visible():
            choose(tab, answered)
            answered += 1
            asks.wait_for(state="hidden")
        elif goes.is_visible():
            goes.click()
            goes.wait_for(state="hidden")
        else:
            break
    return answered


def downloaded(tab):
    with tab.expect_download() as found:
        click(tab, "Download my answers")
    with open(found.value.path()) as file:
        return json.load(file)


def by_key(tab, number):
    tab.keyboard.press(["ArrowLeft", "ArrowRight"][number % 2])


def by_touch(tab, number):
    tab.locator(f".{['left', 'right'][number % 2]} .frame").tap()


class TestBrowser:
    def test_a_whole_trial_by_keys_goes_on_after_a_reload(self, tmp_path, tab):
        out, true = tmp_path / "page", pictures(96)
        key = build(out, true, {"l2": true}, 6, replace(SMALL, exposure=1.0))
        tab.goto(f"file://{out}/index.html?code={code_of(key, 2)}")
        begin(tab)
        assert drive(tab, by_key, until=3) == 3
        tab.reload()
        assert drive(tab, lambda tab, number: by_key(tab, number + 3)) == 3
        self.check(tab, out, key, 2, 1.0)

    def test_a_whole_trial_by_touch_tells_in_practice_alone(self, page, tab):
        out, key = page
        session = key[(key["trial"] == 0) & (key["fake_side"] == "left")]["session"].iloc[0]
        told = []

        def choose(tab, number):
            by_touch(tab, number)
            if number == 0:
                tab.get_by_text("Right: that was the fake.").wait_for()
            tab.get_by_text("Which one is fake?").wait_for(state="hidden")
            told.append(tab.get_by_text("was the fake").is_visible())

        tab.goto(f"file://{out}/index.html?code={code_of(key, session)}")
        begin(tab)
        assert drive(tab, choose) == 6
        assert told == [True] * 2 + [False] * 4
        self.check(tab, out, key, session, SMALL.exposure)

    @staticmethod
    def check(tab, out, key, session, exposure):
        """What was downloaded: every answer, exposures by the clock of the frames, nothing from elsewhere."""
        state = downloaded(tab)
        assert (state["session"], state["finished"], state["build"]) == (session, True, data_of(out)["build"])
        assert [a["trial"] for a in state["answers"]] == list(range(6))
        assert [a["choice"] for a in state["answers"]] == ["left", "right"] * 3
        assert all(a["seconds"] > 0 for a in state["answers"])
        shown = [e for a in state["answers"] for e in a["exposures"]]
        print(f"exposures by the clock of the frames: {min(shown):.1f} to {max(shown):.1f} ms")
        assert all(abs(e - 1000 * exposure) <= 50 for e in shown)
        assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests)
        answers = pd.DataFrame(state["answers"]).assign(participant=state["participant"], session=state["session"])
        joined = join(key, answers)
        assert len(joined) == 4 and joined["kind"].value_counts().to_dict() == {"method": 3, "catch": 1}

    def test_a_small_window_has_to_grow(self, page, tab):
        out, key = page
        tab.set_viewport_size({"width": 220, "height": 700})
        tab.goto(f"file://{out}/index.html")
        tab.get_by_text("Please open the link").wait_for()
        tab.goto(f"file://{out}/index.html?code={code_of(key, 0)}")
        begin(tab)
        tab.get_by_text("do not fit").wait_for()
        tab.set_viewport_size({"width": 900, "height": 700})
        tab.get_by_text("Practice 1 of 2").wait_for()

    def test_early_keys_count_nothing(self, tmp_path, tab):
        """An answer before both pictures were seen."""
        true = pictures(96)
        key = build(tmp_path / "page", true, {"l2": true}, 1, replace(SMALL, exposure=5.0))
        tab.goto(f"file://{tmp_path}/page/index.html?code={code_of(key, 0)}")
        begin(tab)
        tab.get_by_text("Look ...").wait_for()
        tab.keyboard.press("ArrowLeft")
        time.sleep(0.3)
        assert tab.get_by_text("Look ...").is_visible()


def test_a_whole_trial_from_the_collector(tab, forks, free_port, wait_for_port, tmp_path):
    """By the command line: every answer arrives, also those that were given while it was down."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    true = pictures(96)
    key = build(tmp_path / "page", true, {"l2": true}, 4, SMALL, post=f"{address}/answers")
    command = ["trial", "serve", str(tmp_path / "page"), "--port", str(port)]
    servers = forks(
        "import colorstudy.trial.commands, colorstudy.trial.server\nfrom colorstudy.cli import main as call"
    )

    @contextmanager
    def serving():
        process = servers.start(tmp_path / "log.txt", command)
        wait_for_port(port)
        yield
        os.kill(process, signal.SIGTERM)
        servers.wait(process)

    with serving():
        tab.goto(f"{address}/?code={code_of(key, 1)}")
        begin(tab)
        drive(tab, by_key, until=2)
    drive(tab, by_key, until=2)
    with serving():
        drive(tab, by_touch, until=2)
        tab.get_by_role("textbox").fill("=1+1")
        click(tab, "Finish")
        tab.get_by_text("All 6 answers are in").wait_for()
        assert not tab.get_by_text("could not be sent").is_visible()
    assert cli.main(["trial", "answers", str(tmp_path / "page"), "-o", str(tmp_path / "answers.csv")]) == 0
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["trial"].tolist() == list(range(6)) and answers["comment"].iloc[-1] == "'=1+1"
    assert len(join(key, answers)) == 4
    assert set(answers["session"]) == {1}
    assert cli.main(["trial", "answers", str(tmp_path / "page"), "--delete", code_of(key, 1)]) == 0
    assert all(url.startswith((address, "data:", "blob:")) for url in tab.requests)


def test_a_whole_trial_in_jupyterlab(page, tab, jupyterlab, tmp_path):
    """The widget in a notebook of a real JupyterLab; its answers are a table in the kernel."""
    playwright = pytest.importorskip("playwright.sync_api")
    out, key = page
    sources = [
        f"from colorstudy.trial.widget import Trial\ntrial = Trial({str(out)!r}, session=4)\ntrial",
        "trial.answers.to_json('answers.json', orient='records')",
    ]
    tab.problems = []  # of JupyterLab itself, none of ours
    tab.goto(jupyterlab(*sources))
    code = tab.locator(".jp-CodeCell .cm-content")
    code.first.wait_for(timeout=60_000)
    tab.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=60_000)
    for _ in range(8):  # a kernel that is not attached yet forgets what it is asked
        if tab.locator(".jp-Dialog").count():  # JupyterLab's own, on a slow machine
            tab.keyboard.press("Escape")
        code.first.click()
        tab.keyboard.press("Control+Enter")
        try:
            tab.get_by_role("button", name="I agree").wait_for(timeout=10_000)
            break
        except playwright.TimeoutError:
            pass
    begin(tab)
    tab.get_by_text("Look ...").wait_for()
    box = tab.locator(".pair").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= tab.viewport_size["height"]  # scrolled into sight
    assert drive(tab, by_touch) == 6
    tab.get_by_text("All 6 answers are in").wait_for()
    code.last.click()
    tab.keyboard.press("Shift+Enter")
    for _ in range(400):
        if (tmp_path / "answers.json").exists():
            break
        time.sleep(0.05)
    tab.screenshot(path=tmp_path / "lab.png")
    answers = pd.read_json(tmp_path / "answers.json")
    assert answers["trial"].tolist() == list(range(6)) and set(answers["session"]) == {4}
    assert all(abs(e - 1000 * SMALL.exposure) <= 50 for pair in answers["exposures"] for e in pair)
    assert len(join(key, answers)) == 4
    tab.problems = []


class TestWidget:
    def test_holds_one_session_and_only_its_pictures(self, page):
        out, key = page
        widget = Trial(out, session=2)
        assert widget.config["session"] == 2 and len(widget.config["trials"]) == 6
        shown = [trial[side] for trial in widget.config["trials"] for side in OTHER_SIDE]
        assert len(set(shown)) == 12 and all(url.startswith("data:image/bmp;base64,") for url in shown)
        assert widget.answers.empty and widget.config["post"] is None
        pd.testing.assert_frame_equal(widget.key, key)

    def test_answers_are_a_table(self, page):
        widget = Trial(page[0], session=2)
        given = [
            {"trial": i, "choice": "left", "seconds": 1.0, "exposures": [1000, 1000], "frame": 16} for i in range(6)
        ]
        widget.state = {"participant": "me", "session": 2, "build": "x", "answers": given}
        assert len(join(widget.key, widget.answers)) == 4

    def test_needs_a_page(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="page: expected a folder of `trial build`"):
            Trial(tmp_path)


def test_the_command_builds_a_trial_of_finished_runs(tmp_path, capsys):
    run = str(fit("class", photos(size=64), TrainConfig(steps=1, batch_size=4, crop=32), tmp_path / "run"))
    command = ["trial", "build", run, "l2", "-o", str(tmp_path / "page"), "--participants", "4"]
    command += ["--practice", "2", "--trials", "5", "--catch", "0.2", "--size", "64", "--exposure", "0.5"]
    assert cli.main(command) == 0
    assert f"{tmp_path / 'page' / 'index.html'}?code=" in capsys.readouterr().out
    key = pd.read_csv(tmp_path / "page.key.csv")
    assert set(key["method"]) == {"class", "l2"} and key["session"].nunique() == 4
    assert data_of(tmp_path / "page")["exposure"] == 0.5
    assert cli.main(["trial", "build", "l2", "l2", *command[4:]]) == 2
    assert "runs: expected one of each method" in capsys.readouterr().err
    assert cli.main(["trial", "serve", str(tmp_path)]) == 2
    assert "page: expected a folder of `trial build`" in capsys.readouterr().err


def test_an_export_is_never_replaced_by_nothing(page, tmp_path, capsys):
    """By a missing file of answers, one without any, one of another page; and none of these is made or changed."""
    out, key = page
    export, none = tmp_path / "a.csv", tmp_path / "none.sqlite"
    export.write_text("hours of work")
    Answers(none, key).close()
    other = tmp_path / "other.sqlite"
    Answers(other, key.assign(build="other")).close()
    before = none.read_bytes()
    errors = {"typo": "does not exist", "none": "expected at least one", "other": "answers to this page"}
    for name, said in errors.items():
        path = tmp_path / f"{name}.sqlite"
        for last in (["-o", str(export)], ["-o", str(export), "--delete", "a" * 32]):
            assert cli.main(["trial", "answers", str(out), "--answers", str(path), *last]) == 2
            assert said in (error := capsys.readouterr().err) or "code: expected one of this trial" in error
    assert export.read_text() == "hours of work" and none.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "none.sqlite", "other.sqlite"}
