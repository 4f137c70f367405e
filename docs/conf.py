"""Sphinx configuration. The page of settings is written from their declarations before anything is read."""

import pathlib
import sys

from sphinx.application import Sphinx

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import wsgicluster  # noqa: E402  (the package of this checkout, whatever is installed)

project = "wsgicluster"
author = "the wsgicluster authors"
copyright = "the wsgicluster authors"
version = release = wsgicluster.__version__

extensions: list[str] = []
exclude_patterns = ["_build", "explanation/performance-table.rst"]
nitpicky = True
html_theme = "alabaster"
html_theme_options = {"description": "A WSGI application server"}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
highlight_language = "none"


def write_settings(_app: Sphinx) -> None:
    """Render ``reference/settings.rst``; an unchanged page is left alone, so that it is not built anew."""
    from wsgicluster.settings.reference import render

    page = HERE / "reference" / "settings.rst"
    text = render()
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Hook into the build."""
    app.connect("config-inited", lambda app, _config: write_settings(app))
