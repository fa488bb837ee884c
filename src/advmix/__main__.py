"""`python -m advmix`."""

import sys

from advmix.cli import main

sys.exit(main())
