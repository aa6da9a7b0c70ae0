"""``python -m netpress``, for environments whose scripts are not on the path."""

from netpress.cli import main

main()
