"""What lgpio 0.2.2 does when it is imported: a pipe in $LG_WD, else in the working directory, and no way without."""

import os
from pathlib import Path

_PIPE = Path(os.environ.get("LG_WD", ".")) / f".lgd-nfy{os.getpid()}"
os.mkfifo(_PIPE)
_PIPE.unlink()
