"""``python -m adapt_diffuse``."""

import io
import sys

from .cli import main

if __name__ == "__main__":
    # names of photos have letters that some consoles cannot show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
