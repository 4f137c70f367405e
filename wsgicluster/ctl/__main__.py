"""``python -m wsgicluster.ctl``, the same as ``wsgiclusterctl``."""

import sys

from wsgicluster.ctl.command import main

sys.exit(main())
