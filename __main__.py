"""`python -m trine`: the command line."""

from .cli import main

main()
