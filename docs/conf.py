"""Sphinx configuration; built with every warning as an error (`nox -s docs`)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import ccm._opening
from ccm._conversations import Stages
from ccm.storage import Storage

with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as _file:
    _metadata = tomllib.load(_file)["project"]

# Imported for type checkers alone, but the reference has to know what they are.
vars(ccm._opening).update(Stages=Stages, Storage=Storage)

project = _metadata["name"]
author = _metadata["authors"][0]["name"]
copyright = f"2026, {author}"
version = release = _metadata["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

# The build needs no network, so names of other libraries stay text: only names of ccm must lead somewhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!ccm\.)[a-z_]+(\.\w+)+"),
    ("py:class", "datetime"),
    # Parts of a picture and type variables have no entry of their own.
    ("py:class", "ClassQueue|RouteStatistics|ChannelStatistics|SessionStatistics|CacheStatistics|Rates"),
    ("py:class", "WaitTrend"),
    ("py:class", "TracerProvider"),  # OpenTelemetry's
    ("py:class", r"(ccm\.[\w.]+\.)?_?(Ts?|K|V)"),
    ("py:class", r"ccm\._extras\.Steered|ccm\._events\.Alert\w+|FetchMany"),
]

# What `create_app` returns is an ASGI application; OpenTelemetry is not among the projects linked to.
nitpick_ignore = [
    ("py:class", "ccm.http._guard.Guard"),
    ("py:class", "TracerProvider"),
    ("py:class", "Path"),
    ("py:class", "Dialler"),
]
