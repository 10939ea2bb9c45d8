"""A collector: serves the page of a trial and keeps its answers, each exactly once, in SQLite.

Nobody can answer without a code of the key, and each is good for one session, so a client has no more sessions than
it was given codes. Where the collector faces the internet, a proxy in front must still speak TLS, limit the requests
and connections of one address, and log neither addresses nor codes: the page promises that none are kept.
"""

import asyncio
import json
import os
import re
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from colorstudy._checks import extra, require
from colorstudy.trial.design import SIDES
from colorstudy.trial.page import origin_of, read_script, resource

with extra("trial"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_BYTES = 4096  # of one posted answer
MAX_SECONDS = 60  # from one reply on a connection to the next, slow senders and readers included
MAX_CONNECTIONS = 500  # beyond which the longest without a reply is closed; those about to be need files as well

_HEADERS = [
    ("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'none'"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
]
_COMMENT = re.compile("[^\ud800-\udfff]{0,500}")  # no halves of letters, which Unicode has and no file can hold


class Answers:
    """Answers to the page of a `key`, in the SQLite file `path`: "rwc" (made if needed), "rw" or "ro" by `mode`."""

    def __init__(self, path: str | os.PathLike, key: pd.DataFrame, mode: str = "rwc") -> None:
        require({"build", "code"} <= {*key} and key["build"].nunique() == 1, "key", "that of one page", [*key])
        self.build = str(key["build"].iloc[0])
        self.sessions = dict(zip(key["code"], key["session"].tolist()))  # by code
        self.trials = int(key["trial"].max()) + 1
        self._lock = threading.Lock()
        require(mode == "rwc" or Path(path).is_file(), "answers", "a file of answers", f"{path}, which does not exist")
        if mode == "rwc":
            Path(path).touch(0o600)
        uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
        self._file = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        self.close = self._file.close
        try:
            if mode == "rwc":
                self._file.executescript(resource("answers.sql"))
                self._file.execute("INSERT INTO pages SELECT ? WHERE NOT EXISTS (SELECT 1 FROM pages)", [self.build])
            if self._file.execute("SELECT build FROM pages").fetchall() != [(self.build,)]:
                raise sqlite3.DatabaseError("those to another")
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f"{path}: expected a file of answers to this page, got {error}") from None

    def add(self, answer: Any) -> bool:
        """Keep one answer, on the disk and once, however often it is sent; False if it was there already.

        An ``HTTPException`` if it is malformed or of another page (422), under a code that was not given, all alike
        (403), or contradicts what is there (409): another answer to this pair, or a pair before its turn.
        """
        row = self._checked(answer)
        names = ", ".join(row)
        with self._lock:
            query = f"SELECT {names} FROM answers WHERE session = ? ORDER BY trial"
            known = [dict(zip(row, found)) for found in self._file.execute(query, [row["session"]])]
            if row["trial"] > len(known):
                raise HTTPException(409, f"trial: expected pair {len(known)} next, got {row['trial']}")
            if row["trial"] == len(known):
                insert = f"INSERT INTO answers ({names}, received) VALUES ({'?, ' * len(row)} ?)"
                self._file.execute(insert, [*row.values(), time.time()])
                return True
            if known[row["trial"]] != row:
                raise HTTPException(409, f"trial: expected no other answer to pair {row['trial']}, which has one")
        return False

    def delete(self, code: str) -> int:
        """Remove all answers of a participant, who asked for it, from every file; how many they were."""
        require(code in self.sessions, "code", "one of this trial", "another")
        with self._lock:
            self._file.execute("PRAGMA secure_delete = ON")
            count = self._file.execute("DELETE FROM answers WHERE session = ?", [self.sessions[code]]).rowcount
            self._file.execute("VACUUM")
            ((busy, *_),) = self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        require(not busy, "delete", "no reader of the answers, to erase them from the log: try again", "one")
        return count

    def table(self) -> pd.DataFrame:
        """All answers, as `analysis.join` takes them; text that a spreadsheet would run starts with an apostrophe."""
        with self._lock:
            query = "SELECT session AS participant, * FROM answers ORDER BY session, trial"
            table = pd.read_sql_query(query, self._file)
        table["comment"] = table["comment"].where(~table["comment"].str.match(r"[=+\-@\t\r]"), "'" + table["comment"])
        return table

    def _checked(self, answer: Any) -> dict[str, Any]:
        """The columns of a well-formed answer of this page."""
        row: dict[str, Any] = {"frame": 0, "comment": ""} | (answer if isinstance(answer, dict) else {})
        rules = {
            "build": (lambda it: it == self.build, "that of this page"),
            "code": (lambda it: isinstance(it, str), "text"),
            "trial": (lambda it: type(it) is int and 0 <= it < self.trials, "a pair of the session"),
            "choice": (lambda it: it in SIDES, f"one of {SIDES}"),
            "seconds": (_is_time, "a time"),
            "exposures": (lambda it: isinstance(it, list) and [*map(_is_time, it)] == [True, True], "two times in ms"),
            "frame": (_is_time, "a time in ms"),
            "comment": (lambda it: isinstance(it, str) and _COMMENT.fullmatch(it), "Unicode, up to 500 letters"),
        }
        if not isinstance(answer, dict) or not {*answer} <= {*rules}:
            raise HTTPException(422, f"answer: expected the fields {[*rules]}, got {str(answer)[:80]!r}")
        for name, (is_good, expected) in rules.items():
            if not is_good(row.get(name)):
                raise HTTPException(422, f"{name}: expected {expected}, got {str(row.get(name))[:80]!r}")
        if row["code"] not in self.sessions:
            raise HTTPException(403, "code: expected one that was given")
        row["exposures"] = json.dumps(row["exposures"])
        return {"session": self.sessions[row["code"]]} | {name: row[name] for name in [*rules][2:]}


def application(page: str | os.PathLike, answers: Answers) -> Starlette:
    """The page at ``/``, and ``POST /answers``: 201 (kept), 200 (was there), or 403, 409, 413, 415, 422 (refused).

    An answer is JSON, and comes from one of the two origins that the page was built for.
    """
    data = read_script(Path(page, "data.js"))
    origins = [*filter(None, map(origin_of, (data["post"], data["origin"])))]

    async def post(request: Request) -> Response:
        if request.headers.get("Origin") not in origins:
            raise HTTPException(403, "expected the origin of the page")
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "expected application/json")
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BYTES:
                    raise HTTPException(413, f"expected up to {MAX_BYTES} bytes")
            added = await run_in_threadpool(answers.add, json.loads(body))
        except (ValueError, RecursionError, ClientDisconnect):  # nobody reads the reply to the last
            raise HTTPException(422, "expected JSON") from None
        return Response(status_code=201 if added else 200)

    # Only files of the folder are served, and nothing of a request is used as a path of anything else.
    static = StaticFiles(directory=Path(page).resolve(), html=True)
    served = Starlette(routes=[Route("/answers", post, methods=["POST"]), Mount("/", static)])
    served.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"], allow_headers=["Content-Type"])
    return served


class _Connection(H11Protocol):
    """A connection that is closed `MAX_SECONDS` after its last reply, or sooner if it is the oldest of too many."""

    _all: ClassVar[dict["_Connection", asyncio.TimerHandle]] = {}  # in the order of their last replies

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self._all) > MAX_CONNECTIONS:
            next(iter(self._all))._wait(False)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait(False)

    def _wait(self, more: bool = True) -> None:
        """Set the clock anew; or end the connection."""
        if self in self._all:
            self._all.pop(self).cancel()
        if more:
            self._all[self] = self.loop.call_later(MAX_SECONDS, self._wait, False)
        else:
            self.transport.abort()


def serve(page: str | os.PathLike, answers: Answers, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until interrupted; on this machine alone, unless `host` says otherwise."""
    with suppress(ImportError, ValueError, OSError):  # room for them where fewer files may be open: macOS allows 256
        from resource import RLIMIT_NOFILE, getrlimit, setrlimit

        setrlimit(RLIMIT_NOFILE, (1024, getrlimit(RLIMIT_NOFILE)[1]))
    quiet: dict[str, Any] = {"log_level": "error", "access_log": False}  # whoever sends nonsense fills no log
    limits: dict[str, Any] = {"http": _Connection, "ws": "none", "backlog": MAX_CONNECTIONS // 5}
    uvicorn.run(application(page, answers), host=host, port=port, headers=_HEADERS, **limits, **quiet)


def _is_time(value: Any) -> bool:
    """Whether this is a duration that can be: a number, and no more than a day in ms."""
    return type(value) in (int, float) and 0 <= value <= 86_400_000
