"""Colour as regression or as classification: a reproducible study of automatic colorization.

import colorstudy as cs

cs.Colorizer.load().colorize("old-photo.jpg")                                     # colour a picture
run = cs.fit("class", cs.load("photos"), cs.TrainConfig(steps=600), "runs/class")  # train a method
cs.evaluate(cs.Colorizer.load(run), cs.load("photos"))                            # score it
cs.Method(target="my_losses:Huber")                                               # train with a loss of your own
"""

import os

import lazy_loader

__version__ = "0.2.0"

# How often a waiting thread of torch looks around before it sleeps. The default, 300,000 times, keeps a core from other
# processes. libgomp reads it as torch is loaded: a notebook that imports torch first has it from `make lab` or `study`.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# The public names, listed in __init__.pyi, are imported when they are first used: ``import colorstudy`` stays cheap.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
