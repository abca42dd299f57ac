"""Self-contained HTML pages from templates, and pictures and charts as parts of them."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from lumirkit.base.files import write_text_atomically

# Matplotlib draws ink in this colour, which nothing else has; the page then replaces it by its own text colour.
INK = "#010203"
SERIES_COLORS = ("#2b8cd6", "#e0702a", "#1aa67f", "#d07fb0", "#e69f00", "#56b4e9", "#8f6bc1", "#999999")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lumirkit",  # the same ids, and so the same bytes, every time
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.15,
}


def style() -> Any:
    """The context in which charts for `as_svg` are made and drawn."""
    return mpl.rc_context(_STYLE)


def as_svg(figure: Figure, description: str) -> Markup:
    """A chart as part of a page, in the page's colours; `description` is read to those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    label = Markup.escape(description)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" class="chart" ', 1))


def as_data_uri(content: bytes, kind: str) -> str:
    """A picture as the address of an `<img>`; kind is "webp" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template and write the page atomically."""
    write_text_atomically(path, _templates().get_template(template).render(**content))


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lumirkit.eval.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
