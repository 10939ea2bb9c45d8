"""What the notebook on video measures: the clips, how strongly to smooth, and what that does to other clips."""

from collections.abc import Sequence

import pandas as pd

from colorstudy.data import photos
from colorstudy.study import grid
from colorstudy.study.evaluation import Gray
from colorstudy.study.run import Run
from colorstudy.video.clips import CLIPS, KnownClip, clip, made_clips
from colorstudy.video.files import excerpt
from colorstudy.video.scores import clip_scores, measured_motions, scored


def films(part: str, most: int, frames: int, size: int) -> dict[str, KnownClip]:
    """At most `most` clips of `size` pixels: real ones of a half of `CLIPS`, "tune" or "test"; without these, made."""
    names = [name for name, row in CLIPS.items() if row["split"] == part][:most]
    try:
        real = {name: excerpt(clip(name), frames, size) for name in names}
    except FileNotFoundError as error:
        print(f"Made clips instead of real ones. {error}")
        made = made_clips(photos(size=4 * size).test, frames, size)
        return {name: made[name] for name in [*made][part == "tune" :: 2][:most]}
    return {name: KnownClip(rgb, measured_motions(rgb)) for name, rgb in real.items()}


def strengths(tried: pd.DataFrame) -> pd.DataFrame:
    """Of `scored` clips of each method, smoothing and decay: means, ``steadiness``, and which decay is ``chosen``.

    The steadiness is the warp error relative to chroma of the truth, by that of the method: 1 is as steady. Of decays
    that are as steady as the truth, the one of best AuC is chosen; if none is, the steadiest.
    """
    table = tried.groupby(["method", "smoothing", "decay"], sort=False).mean(numeric_only=True)
    table["steadiness"] = table["warp_error_true"] / table["chroma_true"] * table["chroma"] / table["warp_error"]
    rank = table["auc"].where(table["steadiness"] >= 1, table["steadiness"] - 1)  # an AuC is above all of the others
    table["chosen"] = rank.groupby(level=["method", "smoothing"]).transform("max") == rank
    return table[["auc", "steadiness", "chosen"]].reset_index()


def smoothed(runs: Sequence[Run], clips: dict[str, KnownClip], chosen: pd.DataFrame) -> pd.DataFrame:
    """`scored` clips as `runs` colour them, unsmoothed and as `strengths` has `chosen`; and those of truth and grey."""
    decays = chosen[chosen["chosen"]].groupby("method")[["smoothing", "decay"]].apply(lambda part: [*part.to_numpy()])
    table = grid.of_runs(runs, clips, lambda c, _: scored(c, clips, [("none", 0.0), *decays[c.model.method.name]]))
    table["method"] += ", " + table["smoothing"]
    rows = [
        {"method": name, "seed": 0, "image": image} | clip_scores(pred, rgb, motions)
        for image, (rgb, motions) in clips.items()
        for name, pred in {"truth": rgb, "gray": Gray().colorize(rgb)}.items()
    ]
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
