"""Colour as regression or as classification: a reproducible study of automatic colorization."""

__version__ = "0.1.0"
