"""The demo: the same traffic through a plain client and through the kit at the same time, side by side."""
