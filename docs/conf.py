"""The site of these pages: `make docs`."""

from __future__ import annotations

from sphinx.application import Sphinx

import clip2x

project, author, release = "clip2x", "the clip2x authors", clip2x.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"clip2x {release}"
html_copy_source = False
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # the notebook is kept with its output: it needs the mini profile's encoders, a quarter of an hour of work
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
suppress_warnings = ["misc.highlighting_failure"]  # `...` in commands of the pages
default_role = "code"

FROM_ROOT = {"](docs/": "](", "](benchmarks/results.md": "](results.md", "](CONTRIBUTING.md": "](contributing.md", "](CHANGELOG.md": "](changelog.md"}


def links_of_the_root(app: Sphinx, path: object, parent: str, source: list[str]) -> None:
    """Lead the links of pages that lie outside of `docs` to where the site has them."""
    for link, target in FROM_ROOT.items():
        source[0] = source[0].replace(link, target)


def setup(app: Sphinx) -> None:
    """Register what Sphinx calls."""
    app.connect("include-read", links_of_the_root)
