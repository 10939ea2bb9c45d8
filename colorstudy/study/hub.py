"""Models shared as folders, or on the Hugging Face Hub: weights with a model card, as other libraries have them."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import torch

from colorstudy._checks import extra, require
from colorstudy._files import write_text
from colorstudy.colorize import Colorizer
from colorstudy.runs import WEIGHTS

CARD = "README.md"


def from_pretrained(
    repo_or_folder: str | os.PathLike, revision: str | None = None, device: str | torch.device | None = None
) -> Colorizer:
    """That of a folder of `save_pretrained`, or of a `revision` of a Hugging Face Hub repository, "owner/name"."""
    path = Path(repo_or_folder)
    if not path.exists():
        with extra("hub"):
            from huggingface_hub import hf_hub_download
        path = Path(hf_hub_download(str(repo_or_folder), WEIGHTS, revision=revision))
    return Colorizer.load(path, device)


def save_pretrained(
    colorizer: Colorizer, folder: str | os.PathLike, repo_id: str = "", private: bool | None = None
) -> None:
    """Write the model, decoded as `colorizer` does, and a model card, unless there is one, into `folder`.

    With a `repo_id`, "owner/name", both also go to that repository of the Hugging Face Hub, made if there is none.
    """
    folder, method, model = Path(folder), colorizer.model.method, copy.copy(colorizer.model)
    kept = not colorizer.options or method.target == "classification"  # whose options are fields of its method
    require(kept, "options", f"none, as a file of a {method.target} has no place for them", colorizer.options)
    model.method, model.size = replace(method, **colorizer.options), colorizer.size
    model.save(folder / WEIGHTS)
    if not (folder / CARD).exists():
        card = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
        write_text(folder / CARD, card.format(repo=repo_id or folder.resolve().name, model=model))
    if repo_id:
        with extra("hub"):
            from huggingface_hub import create_repo, upload_folder
        create_repo(repo_id, private=private, exist_ok=True)
        upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=[WEIGHTS, CARD])
