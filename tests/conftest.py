"""Fixtures that several test files use."""

import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("COLORSTUDY_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def reference():
    """Reads a published array, or the text of a table; its test skips where the reference files are absent."""

    def read(name):
        path = SHARED / "reference" / name
        if not path.exists():
            pytest.skip(f"{name} is not here; set COLORSTUDY_SHARED to the folder that holds reference/")
        return np.load(path) if path.suffix == ".npy" else path.read_text(encoding="utf-8")

    return read


@pytest.fixture
def losses():
    """The losses of some steps of AdamW on one batch of sRGB (B, 3, H, W)."""

    def losses(model, rgb, steps, learning_rate):
        optimizer, found = torch.optim.AdamW(model.parameters(), learning_rate), []
        for _ in range(steps):
            loss = model.loss(rgb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    return losses


class Forks:
    """Calls of one function, each in a process of its own, which starts at once.

    They are forked from a process that has imported all and computed nothing: imports take longer than the calls.
    `code` defines ``call(*arguments)``; `given` are its ``sys.argv[1:]``.
    """

    _SERVER = """
import os, sys
for line in sys.stdin:
    command, *rest = eval(line)
    if command == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(*rest, 0)[1]), flush=True)
    elif pid := os.fork():
        print(pid, flush=True)
    else:
        log, *arguments = rest
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        try:
            call(*arguments)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
"""

    def __init__(self, code, *given):
        if not hasattr(os, "fork"):
            pytest.skip("needs fork")
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        command = [sys.executable, "-c", code + self._SERVER, *map(str, given)]
        self.server = subprocess.Popen(command, env=environment, **pipes)

    def start(self, log, *arguments):
        """The process id of a call, whose output goes to the file `log`."""
        return self._ask("start", str(log), *arguments)

    def wait(self, pid):
        """The exit status of a call, once it ended."""
        return self._ask("wait", pid)

    def stop(self):
        self.server.kill()
        self.server.communicate()

    def _ask(self, *request):
        self.server.stdin.write(repr(request) + "\n")
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def forks():
    """Makes `Forks`, and stops them."""
    made = []

    def make(code, *given):
        made.append(Forks(code, *given))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def code_hash_once():
    """`fit` hashes the code once, instead of for every run: it does not change meanwhile."""
    from colorstudy import training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "code_hash", functools.cache(training.code_hash))
        yield


@pytest.fixture(scope="session")
def free_port():
    """Gives a port of this machine on which nothing listens."""

    def find():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def wait_for_port():
    """Waits until something listens on a port of this machine."""

    def wait(port):
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("the server did not start")

    return wait


@pytest.fixture
def jupyterlab(free_port, wait_for_port, tmp_path):
    """Starts JupyterLab on a notebook of some cells, in `tmp_path`, and gives the address at which it is open."""
    servers = []

    def start(*sources):
        empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        cells = [empty | {"id": f"c{i}", "source": source} for i, source in enumerate(sources)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "test.ipynb").write_text(json.dumps(notebook))
        port = free_port()
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}",
                   "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "JUPYTER_PREFER_ENV_PATH": "1"}
        for name in ("SETTINGS", "WORKSPACES"):
            environment[f"JUPYTERLAB_{name}_DIR"] = str(tmp_path / name.lower())
        servers.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for_port(port)
        return f"http://127.0.0.1:{port}/lab/tree/test.ipynb"

    yield start
    for server in servers:
        server.terminate()
        server.wait(20)
