"""So that ``python -m simmig.cli`` is the command, too."""

import sys

from simmig.cli.main import main

sys.exit(main())
