"""What self-contained HTML pages are put together from; texts are escaped, light and dark, for large screens and phones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clip2x.evaluation.charts import text

STYLE = Path(__file__).with_name("page.css")


def document(title: str, sections: Sequence[str]) -> str:
    """Make one HTML file, which needs no other, of sections that are markup already."""
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{text(title)}</title><style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n<body><main>\n"
            f"{chr(10).join(sections)}\n</main></body></html>\n")


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Show values, each over its label."""
    shown = "".join(f'<div class="tile"><b>{text(value)}</b><span>{text(label)}</span></div>' for value, label in pairs)
    return f'<div class="tiles">{shown}</div>'


def note(line: str) -> str:
    """Show a line that is not to be overlooked."""
    return f'<p class="note">{text(line)}</p>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table of cells that are markup already; it scrolls by itself where the page is narrow."""
    head = "".join(f"<th>{text(title)}</th>" for title in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def percent(share: float | None) -> str:
    """Write a share of 1."""
    return "-" if share is None else f"{100 * share:.1f} %"
