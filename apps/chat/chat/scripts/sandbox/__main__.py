"""`python -m chat.scripts.sandbox [DIRECTORY]` compiles the interpreters into DIRECTORY, unless they are there.

Without one they go where all processes of this user look for them.
"""

import sys
from pathlib import Path

from chat.scripts.sandbox.interpreters import CACHE, prepare

prepare(Path(sys.argv[1]) if len(sys.argv) > 1 else CACHE)
