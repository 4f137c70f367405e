"""``python -m wsgicluster``: the same as the ``wsgicluster`` command."""

import sys

from wsgicluster.entry import main

if __name__ == "__main__":
    sys.exit(main())
