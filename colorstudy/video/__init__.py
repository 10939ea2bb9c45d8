"""Clips: reading and writing, smoothing from frame to frame, and how steady their colours are."""

CLIP_EXTENSIONS = (".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""File name extensions that tell a clip from a picture, in lower case."""
