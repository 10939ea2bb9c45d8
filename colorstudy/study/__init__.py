"""The study: profiles, the grid of runs, intervals, tables, figures, claims and the paper."""
