"""`python -m tests.simulation` and the tests import the same modules, from the folder that holds `tests`."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
