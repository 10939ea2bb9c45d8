"""A collector: serves the page of a trial and keeps its answers, each exactly once, in SQLite."""

import json
import os
import re
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._checks import extra, require
from colorstudy.trial.design import SIDES

with extra("trial"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

MAX_BYTES = 4096  # of one posted answer

_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")
_COMMENT = re.compile("[^\ud800-\udfff]{0,500}")  # no halves of letters, which Unicode has and no file can hold
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS answers (
    participant TEXT NOT NULL, session INTEGER NOT NULL, trial INTEGER NOT NULL, choice TEXT NOT NULL,
    seconds REAL NOT NULL, exposures TEXT NOT NULL, frame REAL, comment TEXT NOT NULL, received REAL NOT NULL,
    PRIMARY KEY (participant, trial)
) STRICT;
CREATE TRIGGER IF NOT EXISTS kept BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
"""


class Refused(ValueError):
    """An answer that does not fit the trial; `status` is that of HTTP."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Answers:
    """Answers to the page of a `key`, in the SQLite file `path`, which is made if needed; they are only added."""

    def __init__(self, path: str | os.PathLike, key: pd.DataFrame) -> None:
        require("build" in key and key["build"].nunique() == 1, "key", "the key of one page", list(key.columns))
        self.build = str(key["build"].iloc[0])
        self.trials = key.groupby("session").size().to_dict()
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.close = self._file.close
        try:
            self._file.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f"{path}: expected a file of answers, got {error}") from None

    def add(self, answer: Any) -> bool:
        """Keep one answer, on the disk and once, however often it is sent; False if it was there already.

        `Refused` if it is malformed or of another page (422), or contradicts what is there (409): another answer to
        this pair, a participant in two sessions, or a pair before its turn.
        """
        row = self._checked(answer)
        names = ", ".join(row)
        with self._lock:
            query = f"SELECT {names} FROM answers WHERE participant = ? ORDER BY trial"
            known = [dict(zip(row, found)) for found in self._file.execute(query, [row["participant"]])]
            if known and known[0]["session"] != row["session"]:
                raise Refused(f"participant: expected session {known[0]['session']}, got {row['session']}", 409)
            if row["trial"] > len(known):
                raise Refused(f"trial: expected pair {len(known)} next, got {row['trial']}", 409)
            if row["trial"] == len(known):
                insert = f"INSERT INTO answers ({names}, received) VALUES ({'?, ' * len(row)} ?)"
                self._file.execute(insert, [*row.values(), time.time()])
                return True
            if known[row["trial"]] != row:
                raise Refused(f"trial: expected no other answer to pair {row['trial']}, which has one", 409)
        return False

    def delete(self, participant: str) -> int:
        """Remove all answers of a participant, who asked for it; how many they were."""
        with self._lock:
            return self._file.execute("DELETE FROM answers WHERE participant = ?", [participant]).rowcount

    def table(self) -> pd.DataFrame:
        """All answers, as `analysis.join` takes them; text that a spreadsheet would run starts with an apostrophe."""
        with self._lock:
            table = pd.read_sql_query("SELECT * FROM answers ORDER BY participant, trial", self._file)
        table["comment"] = table["comment"].where(~table["comment"].str.match(r"[=+\-@\t\r]"), "'" + table["comment"])
        return table

    def _checked(self, answer: Any) -> dict[str, Any]:
        """The columns of a well-formed answer of this page."""
        row: dict[str, Any] = {"frame": 0, "comment": ""} | (answer if isinstance(answer, dict) else {})
        rules = {
            "build": (lambda it: it == self.build, "that of this page"),
            "participant": (lambda it: isinstance(it, str) and _CODE.fullmatch(it), "1 to 40 letters, digits, - or _"),
            "session": (lambda it: type(it) is int and it in self.trials, "one of the page"),
            "trial": (lambda it: type(it) is int and 0 <= it < self.trials[row["session"]], "a pair of the session"),
            "choice": (lambda it: it in SIDES, f"one of {SIDES}"),
            "seconds": (_is_time, "a time"),
            "exposures": (lambda it: isinstance(it, list) and [*map(_is_time, it)] == [True, True], "two times in ms"),
            "frame": (_is_time, "a time in ms"),
            "comment": (lambda it: isinstance(it, str) and _COMMENT.fullmatch(it), "Unicode, up to 500 letters"),
        }
        if not isinstance(answer, dict) or not {*answer} <= {*rules}:
            raise Refused(f"answer: expected the fields {[*rules]}, got {str(answer)[:80]!r}")
        for name, (is_good, expected) in rules.items():  # in this order: a trial needs a session
            if not is_good(row.get(name)):
                raise Refused(f"{name}: expected {expected}, got {str(row.get(name))[:80]!r}")
        row["exposures"] = json.dumps(row["exposures"])
        return {name: row[name] for name in rules if name != "build"}


def application(page: str | os.PathLike, answers: Answers) -> Starlette:
    """The page at ``/``, and ``POST /answers``, which replies 201 (kept), 200 (was there), 409, 413 or 422."""

    async def post(request: Request) -> JSONResponse:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": f"expected up to {MAX_BYTES} bytes"}, 413)
        try:
            added = await run_in_threadpool(answers.add, json.loads(body))
        except Refused as error:
            return JSONResponse({"error": str(error)}, error.status)
        except (ValueError, RecursionError):
            return JSONResponse({"error": "expected JSON"}, 422)
        return JSONResponse({"kept": True}, 201 if added else 200)

    # Only files of the folder are served, and nothing of a request is used as a path of anything else.
    static = StaticFiles(directory=Path(page).resolve(), html=True)
    served = Starlette(routes=[Route("/answers", post, methods=["POST"]), Mount("/", static)])
    # The page may lie on another host, or on a disk; there is nothing here that another page could steal.
    served.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["Content-Type"])
    return served


def serve(page: str | os.PathLike, answers: Answers, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until interrupted; on this machine alone, unless `host` says otherwise."""
    uvicorn.run(application(page, answers), host=host, port=port, log_level="warning", access_log=False)


def _is_time(value: Any) -> bool:
    """Whether this is a duration that can be: a number, and no more than a day in ms."""
    return type(value) in (int, float) and 0 <= value <= 86_400_000
