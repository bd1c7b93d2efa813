"""pytest plugins, each of which puts the kit in the place of what a foreign suite tests."""
