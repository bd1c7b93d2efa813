"""Comparison of runs: a baseline and its regressions, a history and its trends."""
