"""The program `python -m sims.bench`."""

import sys

from sims.bench.command import main

sys.exit(main())
