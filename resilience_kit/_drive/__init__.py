"""Runs attempts and does all the waiting. `call` holds the rules of one call; `sync`, `aio` and `streams` only carry them out."""
