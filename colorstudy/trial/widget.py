"""The trial inside JupyterLab: the same JavaScript as the page, answers as a DataFrame."""

import base64
from pathlib import Path

import pandas as pd

from colorstudy._checks import extra
from colorstudy.trial.design import SIDES
from colorstudy.trial.page import read_key, read_script, resource

with extra("trial"):
    import anywidget
    import traitlets


class Trial(anywidget.AnyWidget):
    """A trial to take part in, in a notebook: the `session` of the folder `page` that `page.build` wrote."""

    _esm = resource("trial.js") + resource("widget.js")
    _css = resource("trial.css")
    config = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, page: str | Path, session: int = 0) -> None:
        self.key = read_key(page)
        (code,) = self.key.loc[self.key["session"] == session, "code"].unique()
        config = read_script(Path(page, "data.js")) | read_script(Path(page, "sessions", f"{code}.js")) | {"post": None}
        for trial in config["trials"]:
            for side in SIDES:
                content = base64.b64encode(Path(page, trial[side]).read_bytes()).decode()
                trial[side] = f"data:image/bmp;base64,{content}"
        super().__init__(config=config)

    @property
    def answers(self) -> pd.DataFrame:
        """The answers so far, as `analysis.join` takes them with `key`."""
        columns = ["trial", "choice", "seconds", "exposures", "frame"]
        table = pd.DataFrame(self.state.get("answers", []), columns=columns)
        return table.assign(**{name: self.state.get(name) for name in ("participant", "session", "build")})
