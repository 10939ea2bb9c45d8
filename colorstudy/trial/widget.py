"""The trial inside JupyterLab: the same JavaScript as the page, answers as a DataFrame."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets

from colorstudy.trial.page import read_key, resource

_RENDER = """
export default {
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "colorstudy-trial in-notebook";
    el.append(root);
    const stored = model.get("state");
    let state = stored.build ? stored : null;
    colorstudyTrial.run(root, model.get("config"), {
      session: model.get("session"),
      store: {
        load: () => state,
        save: (now) => {
          state = now;
          model.set("state", JSON.parse(JSON.stringify(now)));
          model.save_changes();
        },
      },
    });
  },
};
"""


class Trial(anywidget.AnyWidget):
    """A trial to take part in, in a notebook.

    Parameters
    ----------
    page : path
        A folder that `page.build` wrote.
    session : int
        Which of its sessions.

    Attributes
    ----------
    key : DataFrame
        What the pairs are.
    """

    _esm = resource("trial.js") + _RENDER
    _css = resource("trial.css")
    config = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    session = traitlets.Int().tag(sync=True)

    def __init__(self, page: str | Path, session: int = 0) -> None:
        self.key = read_key(page)
        text = (Path(page) / "data.js").read_text(encoding="utf-8")
        config = json.loads(text[text.index("{") : text.rindex("}") + 1]) | {"post": None}
        shown = {trial[side] for trial in config["sessions"][session] for side in ("left", "right")}
        config["sessions"] = {session: config["sessions"][session]}
        config["images"] = {name: _embedded(Path(page) / config["images"][name]) for name in sorted(shown)}
        super().__init__(config=config, session=session)

    @property
    def answers(self) -> pd.DataFrame:
        """The answers so far, as `analysis.join` takes them with `key`."""
        return as_table(self.state)


def as_table(state: Mapping[str, Any]) -> pd.DataFrame:
    """The answers in the state of a trial, or in the file that the page lets participants download."""
    table = pd.DataFrame(state.get("answers", []), columns=["trial", "choice", "seconds", "exposures", "frame"])
    about = {name: state.get(name) for name in ("participant", "session", "build")}
    return table.assign(**about)


def _embedded(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
