"""Runs beside each other: a baseline and what regressed since, a history and its trends."""
