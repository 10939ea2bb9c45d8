"""The trial inside JupyterLab: the same JavaScript as the page, answers as a DataFrame."""

import base64
import json
from pathlib import Path

import pandas as pd

from colorstudy._checks import extra
from colorstudy.trial.page import read_key, resource

with extra("trial"):
    import anywidget
    import traitlets


class Trial(anywidget.AnyWidget):
    """A trial to take part in, in a notebook: the `session` of the folder `page` that `page.build` wrote."""

    _esm = resource("trial.js") + resource("widget.js")
    _css = resource("trial.css")
    config = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    session = traitlets.Int().tag(sync=True)

    def __init__(self, page: str | Path, session: int = 0) -> None:
        self.key = read_key(page)
        text = (Path(page) / "data.js").read_text(encoding="utf-8")
        config = json.loads(text[text.index("{") : text.rindex("}") + 1])
        trials = config["sessions"][session]
        images = {}
        for name in sorted(trial[side] for trial in trials for side in ("left", "right")):
            content = base64.b64encode(Path(page, config["images"][name]).read_bytes()).decode()
            images[name] = f"data:image/jpeg;base64,{content}"
        config |= {"post": None, "sessions": {session: trials}, "images": images}
        super().__init__(config=config, session=session)

    @property
    def answers(self) -> pd.DataFrame:
        """The answers so far, as `analysis.join` takes them with `key`."""
        columns = ["trial", "choice", "seconds", "exposures", "frame"]
        table = pd.DataFrame(self.state.get("answers", []), columns=columns)
        return table.assign(**{name: self.state.get(name) for name in ("participant", "session", "build")})
