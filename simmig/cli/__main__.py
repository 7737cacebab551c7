"""So that ``python -m simmig.cli`` is the command, too."""

import sys

from simmig.cli.main import main

status = main()
# Python ends by SIGINT where an interrupt has met a piece of source being executed (a dataclass being made, for
# one), though it was handled: CPython forgets that only when the next piece is.
exec("")
sys.exit(status)
