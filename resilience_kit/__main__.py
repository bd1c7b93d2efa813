"""`python -m resilience_kit`: the command line, as `resilience-kit`."""

from resilience_kit.cli import main

if __name__ == "__main__":
    main()
