"""Settings of Sphinx for the documentation site. `make docs` builds it with scripts/docs/build_site.py.

The pages are joined in a folder of build/, which is the source folder of Sphinx; see scripts/docs/build_site.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "docs")]
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from site_autodoc import UNKNOWN_TARGETS  # noqa: E402 # found on the path above
from site_pages import galleries  # noqa: E402

from seq2seq.version import __version__  # noqa: E402

project = "seq2seq"
author = "the seq2seq authors"
project_copyright = author
version = release = __version__
language = "en"
smartquotes = False  # it would turn the -- of options into dashes

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser", "site_autodoc"]
exclude_patterns = ["**/*.py.md5", "**/*.ipynb", "**/GALLERY_HEADER.rst"]
nitpicky = True
suppress_warnings = ["sphinx_gallery.duplicate_filename"]  # the chapters in two languages have the same names
nitpick_ignore_regex = UNKNOWN_TARGETS

myst_heading_anchors = 4
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_use_type_comments = False
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = "seq2seq"
html_static_path = [str(ROOT / "docs" / "static")]
html_css_files = ["site.css"]
html_math_renderer = "mathml"  # of site_autodoc: formulas need no script and no network
html_copy_source = False
html_show_sourcelink = False

if GALLERIES := galleries():  # the chapters, which are Python files that the build executes
    extensions.append("sphinx_gallery.gen_gallery")
sphinx_gallery_conf = {
    "examples_dirs": [str(folder) for folder in GALLERIES],
    "gallery_dirs": [folder.name for folder in GALLERIES],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "parallel": int(os.environ.get("DOCS_JOBS", "1")),  # set by build_site.py; 1: one process
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "write_computation_times": False,
    "backreferences_dir": None,
    "plot_gallery": os.environ.get("DOCS_CHAPTERS") != "0",  # set by build_site.py
    "abort_on_example_error": False,  # the others still run; a failed one fails the build
    "only_warn_on_example_error": False,
}
