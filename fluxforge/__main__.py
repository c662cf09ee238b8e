"""``python -m fluxforge`` is the command line."""

from fluxforge.cli import main

main()
