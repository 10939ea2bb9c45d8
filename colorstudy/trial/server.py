"""A collector: serves the page of a trial and keeps its answers, each exactly once, in SQLite."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from colorstudy._checks import require
from colorstudy.trial.design import SIDES

MAX_BYTES = 4096
"""Of one posted answer."""

_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FIELDS = {"build", "participant", "session", "trial", "choice", "seconds", "exposures", "frame", "comment"}
_SCHEMA = """
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
    """The answers of one trial in a SQLite file, to which they are only added.

    An answer is on the disk before `add` returns, and there once, however often it is sent.

    Parameters
    ----------
    path : path
        Made if it is not there.
    key : DataFrame
        As `page.build` wrote it, with its column ``build``.

    Raises
    ------
    ValueError
        If `path` is no such file.
    """

    def __init__(self, path: str | os.PathLike, key: pd.DataFrame) -> None:
        require("build" in key and key["build"].nunique() == 1, "key", "the key of one page", list(key.columns))
        self.build = str(key["build"].iloc[0])
        self.trials = key.groupby("session").size().to_dict()
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f"{path}: expected a file of answers, got {error}") from None

    def add(self, answer: Any) -> bool:
        """Keep one answer; False if it was there already.

        Raises
        ------
        Refused
            If it is malformed or of another page (422), or contradicts what is there: another answer to the same pair,
            a participant in two sessions, or a pair before its turn (409).
        """
        row = self._checked(answer)
        names = list(row)
        with self._lock:
            there = self._file.execute(
                f"SELECT {', '.join(names)} FROM answers WHERE participant = ? ORDER BY trial", [row["participant"]]
            ).fetchall()
            known = [dict(zip(names, found)) for found in there]
            if known and known[0]["session"] != row["session"]:
                raise Refused(f"participant: expected session {known[0]['session']}, got {row['session']}", 409)
            if row["trial"] < len(known):
                if known[row["trial"]] != row:
                    raise Refused(f"trial: expected no other answer to pair {row['trial']}, which has one", 409)
                return False
            if row["trial"] > len(known):
                raise Refused(f"trial: expected pair {len(known)} next, got {row['trial']}", 409)
            marks = ", ".join("?" * (len(row) + 1))
            self._file.execute(
                f"INSERT INTO answers ({', '.join(names)}, received) VALUES ({marks})", [*row.values(), time.time()]
            )
        return True

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

    def close(self) -> None:
        self._file.close()

    def _checked(self, answer: Any) -> dict[str, Any]:
        """The columns of a well-formed answer of this page."""
        _expect(isinstance(answer, dict), "answer", "an object", answer)
        spare = sorted(set(answer) - _FIELDS)
        _expect(not spare, "answer", f"the fields {sorted(_FIELDS)}", spare)
        text, number = answer.get("participant"), answer.get("session")
        _expect(answer.get("build") == self.build, "build", "that of this page", answer.get("build"))
        _expect(isinstance(text, str) and _CODE.fullmatch(text), "participant", "1 to 40 letters, digits, - or _", text)
        _expect(type(number) is int and number in self.trials, "session", "one of the page", number)
        trial, choice, comment = answer.get("trial"), answer.get("choice"), answer.get("comment", "")
        good = type(trial) is int and 0 <= trial < self.trials[number]
        _expect(good, "trial", f"one of the {self.trials[number]} pairs of the session", trial)
        _expect(choice in SIDES, "choice", f"one of {SIDES}", choice)
        _expect(isinstance(comment, str) and len(comment) <= 500, "comment", "text of up to 500 letters", comment)
        lone = any("\ud800" <= letter <= "\udfff" for letter in comment)  # halves of a letter, which no file can hold
        _expect(not lone, "comment", "Unicode", "a lone surrogate")
        exposures, seconds, frame = answer.get("exposures"), answer.get("seconds"), answer.get("frame", 0)
        good = isinstance(exposures, list) and len(exposures) == 2 and all(map(_milliseconds, exposures))
        _expect(good, "exposures", "two times in ms", exposures)
        _expect(_milliseconds(seconds), "seconds", "a time", seconds)
        _expect(_milliseconds(frame), "frame", "a time in ms", frame)
        return {
            "participant": text, "session": number, "trial": trial, "choice": choice, "seconds": float(seconds),
            "exposures": json.dumps(exposures), "frame": float(frame), "comment": comment,
        }  # fmt: skip


def application(page: str | os.PathLike, answers: Answers) -> Starlette:
    """The page at ``/``, and ``POST /answers``, which replies 201 (kept), 200 (was there), 409, 413 or 422.

    Only files of the folder `page` are served; nothing of a request is used as a path of anything else.
    """

    async def post(request: Request) -> JSONResponse:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": f"expected up to {MAX_BYTES} bytes"}, 413)
        try:
            content = json.loads(body, parse_constant=lambda name: float("nan"))
        except (ValueError, RecursionError):
            return JSONResponse({"error": "expected JSON"}, 422)
        try:
            added = await run_in_threadpool(answers.add, content)
        except Refused as error:
            return JSONResponse({"error": str(error)}, error.status)
        return JSONResponse({"kept": True}, 201 if added else 200)

    static = StaticFiles(directory=Path(page).resolve(), html=True)
    # The page may lie on another host, or on a disk; there is nothing here that another page could steal.
    anywhere = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["Content-Type"])
    return Starlette(routes=[Route("/answers", post, methods=["POST"]), Mount("/", static)], middleware=[anywhere])


def serve(page: str | os.PathLike, answers: Answers, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until interrupted; on this machine alone, unless `host` says otherwise."""
    import uvicorn

    uvicorn.run(application(page, answers), host=host, port=port, log_level="warning", access_log=False)


def _expect(condition: Any, argument: str, expected: str, got: Any) -> None:
    if not condition:
        raise Refused(f"{argument}: expected {expected}, got {str(got)[:80]!r}")


def _milliseconds(value: Any) -> bool:
    """Whether this is a duration that can be: a number, and no more than a day."""
    return type(value) in (int, float) and 0 <= value <= 86_400_000
