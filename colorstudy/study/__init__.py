"""The study: profiles, the grid of runs, intervals, tables, figures and claims."""
