"""The version of this package, and where it is at home; setup.cfg and setup.py read them here, too."""

__version__ = "0.2.0"

HOME = "https://github.com/wsgicluster/wsgicluster"
"""The project's page; all other addresses of it begin with this one."""

DOCS = f"{HOME}/tree/main/docs"
"""The documentation, as help texts name it."""
