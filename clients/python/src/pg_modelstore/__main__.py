"""python -m pg_modelstore"""

import sys

from .cli import main

sys.exit(main())
