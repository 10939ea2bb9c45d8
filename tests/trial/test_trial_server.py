"""The collector: what it keeps, what it refuses, and that no acknowledged answer is lost."""

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from functools import partial

import numpy as np
import pytest

from colorstudy.trial.analysis import join
from colorstudy.trial.design import Design, sessions
from colorstudy.trial.server import MAX_BYTES, Answers, Refused

SERVER = """
import pandas as pd
from colorstudy.trial.server import Answers, serve
def call(page, answers, key, port):
    serve(page, Answers(answers, pd.read_csv(key, dtype={"build": str})), port=port)
"""


@pytest.fixture(scope="module")
def key():
    return sessions(Design(practice=2, trials=8), [f"p{i}" for i in range(10)], ["l2", "full"], 12).assign(build="ab12")


def answer(**changes):
    return {"build": "ab12", "participant": "me", "session": 3, "trial": 0, "choice": "left", "seconds": 0.8,
            "exposures": [1000.1, 999.9], "frame": 16.7} | changes  # fmt: skip


@pytest.fixture
def answers(tmp_path, key):
    found = Answers(tmp_path / "answers.sqlite", key)
    yield found
    found.close()


class TestAnswers:
    def test_are_kept_once(self, answers, tmp_path, key):
        assert answers.add(answer()) is True
        assert answers.add(answer()) is False
        assert answers.add(answer(trial=1, choice="right")) is True
        again = Answers(tmp_path / "answers.sqlite", key)
        assert again.table()[["participant", "session", "trial", "choice"]].values.tolist() == [
            ["me", 3, 0, "left"], ["me", 3, 1, "right"]]  # fmt: skip
        again.close()

    def test_fit_the_analysis(self, answers, key):
        for trial in range(10):
            answers.add(answer(trial=trial))
        assert len(join(key, answers.table())) == 8

    @pytest.mark.parametrize(
        ("changes", "status", "named"),
        [
            ({"choice": "right"}, 409, "trial: expected no other answer"),
            ({"trial": 2}, 409, "trial: expected pair 1 next"),
            ({"trial": 1, "session": 4}, 409, "participant: expected session 3"),
            ({"build": "other"}, 422, "build: expected"),
            ({"participant": "<script>alert(1)</script>"}, 422, "participant: expected"),
            ({"participant": "=cmd|' /C calc'!A0"}, 422, "participant: expected"),
            ({"participant": "a" * 41}, 422, "participant: expected"),
            ({"participant": "me\n"}, 422, "participant: expected"),
            ({"participant": ["me"]}, 422, "participant: expected"),
            ({"session": 12}, 422, "session: expected"),
            ({"session": True}, 422, "session: expected"),
            ({"session": "3"}, 422, "session: expected"),
            ({"session": 10**400}, 422, "session: expected"),
            ({"trial": 10}, 422, "trial: expected"),
            ({"trial": -1}, 422, "trial: expected"),
            ({"trial": "../../etc/passwd"}, 422, "trial: expected"),
            ({"choice": "up"}, 422, "choice: expected"),
            ({"choice": ["left"]}, 422, "choice: expected"),
            ({"seconds": -1}, 422, "seconds: expected"),
            ({"seconds": float("nan")}, 422, "seconds: expected"),
            ({"seconds": float("inf")}, 422, "seconds: expected"),
            ({"exposures": [1000]}, 422, "exposures: expected"),
            ({"exposures": ["x", "y"]}, 422, "exposures: expected"),
            ({"comment": "x" * 501}, 422, "comment: expected"),
            ({"comment": "\ud800"}, 422, "comment: expected"),
            ({"image": "../../etc/passwd"}, 422, "answer: expected the fields"),
        ],
    )
    def test_others_are_refused(self, answers, changes, status, named):
        answers.add(answer())
        with pytest.raises(Refused, match=named) as refused:
            answers.add(answer(**changes))
        assert refused.value.status == status
        assert len(answers.table()) == 1

    @pytest.mark.parametrize("content", [None, 1, "text", [], [answer()], {}])
    def test_what_is_no_answer_is_refused(self, answers, content):
        with pytest.raises(Refused):
            answers.add(content)

    def test_a_formula_stays_text(self, answers):
        for trial in range(10):
            answers.add(answer(trial=trial, comment="=HYPERLINK(1)" if trial == 9 else "a-b"))
        comments = answers.table()["comment"]
        assert comments[9] == "'=HYPERLINK(1)" and comments[0] == "a-b"

    def test_are_never_changed_but_may_be_deleted(self, answers, tmp_path):
        answers.add(answer())
        file = sqlite3.connect(tmp_path / "answers.sqlite")
        with pytest.raises(sqlite3.IntegrityError, match="answers are only added"):
            file.execute("UPDATE answers SET choice = 'right'")
        file.close()
        assert answers.delete("you") == 0 and answers.delete("me") == 1
        assert len(answers.table()) == 0

    def test_need_a_file_of_their_own(self, tmp_path, key):
        (tmp_path / "notes.txt").write_text("these are my notes\n" * 100)
        with pytest.raises(ValueError, match=r"notes\.txt: expected a file of answers"):
            Answers(tmp_path / "notes.txt", key)
        assert (tmp_path / "notes.txt").read_text().startswith("these are my notes")
        with pytest.raises(ValueError, match="key: expected the key of one page"):
            Answers(tmp_path / "new.sqlite", key.drop(columns="build"))


class Server:
    """The collector in a process of its own, which can be killed and started again."""

    def __init__(self, forks, ports, folder, key):
        self.forks, self.folder, self.key = forks, folder, folder / "key.csv"
        find_port, self.wait_for_port = ports
        key.to_csv(self.key, index=False)
        (folder / "page").mkdir()
        (folder / "page" / "index.html").write_text("the page")
        (folder / "secret.txt").write_text("a secret")
        self.port = find_port()
        self.start()

    def start(self):
        paths = [str(path) for path in (self.folder / "page", self.folder / "answers.sqlite", self.key)]
        self.process = self.forks.start(self.folder / "log.txt", *paths, self.port)
        self.wait_for_port(self.port)

    def kill(self):
        os.kill(self.process, signal.SIGKILL)
        self.forks.wait(self.process)

    def ask(self, method, path, body=None, connection=None):
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


@pytest.fixture(scope="module")
def starter(forks, free_port, wait_for_port):
    """Starts a `Server` in a folder, with a key."""
    return partial(Server, forks(SERVER), (free_port, wait_for_port))


@pytest.fixture(scope="module")
def server(starter, tmp_path_factory, key):
    running = starter(tmp_path_factory.mktemp("server"), key)
    yield running
    running.kill()


class TestServer:
    def test_serves_the_page_and_nothing_else(self, server):
        assert server.ask("GET", "/") == (200, "the page")
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//etc/passwd", "/answers.sqlite",
                     "/%00", "/key.csv", "/..\\secret.txt"):  # fmt: skip
            status, text = server.ask("GET", path)
            assert status in (400, 404, 405) and "secret" not in text and "root:" not in text, path

    def test_keeps_what_is_posted(self, server):
        post = lambda content: server.ask("POST", "/answers", json.dumps(content))  # noqa: E731
        assert post(answer(participant="first"))[0] == 201
        assert post(answer(participant="first"))[0] == 200
        status, text = post(answer(participant="first", choice="right"))
        assert status == 409 and "no other answer" in json.loads(text)["error"]
        assert post(answer(participant="<b>"))[0] == 422

    def test_refuses_what_is_no_answer(self, server):
        for body in ("", "{", "[" * 2000, "NaN", '{"a": 1e999}', "\xff\xfe"):
            assert server.ask("POST", "/answers", body.encode("latin-1"))[0] == 422
        assert server.ask("POST", "/answers", json.dumps(answer(comment="x" * MAX_BYTES)))[0] == 413
        assert server.ask("POST", "/answers", b"x" * 10_000_000)[0] == 413
        assert server.ask("PUT", "/answers", b"{}")[0] == 405
        assert server.ask("GET", "/")[0] == 200  # and still there

    def test_another_page_may_post(self, server):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        headers = {"Origin": "null", "Access-Control-Request-Method": "POST",
                   "Access-Control-Request-Headers": "content-type"}  # fmt: skip
        connection.request("OPTIONS", "/answers", headers=headers)
        assert connection.getresponse().getheader("Access-Control-Allow-Origin") == "*"


def test_no_acknowledged_answer_is_lost(starter, tmp_path):
    """5,000 answers from 50 clients at once, the server killed three times: each is there exactly once."""
    key = sessions(Design(), [f"p{i}" for i in range(50)], ["full"], 100).assign(build="ab12")
    server = starter(tmp_path, key)
    acknowledged, lock, failures = [], threading.Lock(), []

    def client(number):
        rng = np.random.default_rng(number)
        connection = None
        for session in range(number, 100, 50):
            for trial in range(50):
                content = answer(participant=f"p{session}", session=session, trial=trial,
                                 choice=["left", "right"][rng.integers(2)])  # fmt: skip
                for _ in range(2000):
                    try:
                        connection = connection or http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                        status, text = server.ask("POST", "/answers", json.dumps(content), connection)
                        break
                    except (OSError, http.client.HTTPException):
                        connection = None
                        time.sleep(0.05)
                else:
                    status, text = 0, "gave up"
                if status not in (200, 201):
                    failures.append((status, text))
                    return
                with lock:
                    acknowledged.append((content["participant"], trial, content["choice"]))

    threads = [threading.Thread(target=client, args=[number]) for number in range(50)]
    for thread in threads:
        thread.start()
    for goal in (1000, 2500, 4000):
        while len(acknowledged) < goal and not failures and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()
    server.kill()
    assert not failures, failures[:3]
    assert len(acknowledged) == 5000
    answers = Answers(tmp_path / "answers.sqlite", key)
    found = answers.table()
    answers.close()
    assert sorted(found[["participant", "trial", "choice"]].itertuples(index=False, name=None)) == sorted(acknowledged)
    assert not found.duplicated(["participant", "trial"]).any()
