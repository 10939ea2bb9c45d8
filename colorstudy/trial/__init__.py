"""The human trial: can people tell a coloured photograph from a true one?"""

from colorstudy.trial.analysis import analyse, compare, fooling_rates, join, mixed_model, simulate
from colorstudy.trial.design import Design, participants_needed, session, sessions

__all__ = [
    "Design",
    "analyse",
    "compare",
    "fooling_rates",
    "join",
    "mixed_model",
    "participants_needed",
    "session",
    "sessions",
    "simulate",
]
