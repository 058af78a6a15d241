"""What the page of results shows of one method: accuracy of every class, confusion, hardest mistakes as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip2x.evaluation.charts import interval_bar, text
from clip2x.evaluation.page_parts import percent, table
from clip2x.evaluation.proxy_pictures import data_address

CELL_PX, LETTER_PX, LETTERS = 20, 6.4, 17  # of the confusion matrix: a cell, the width of a letter, letters of a name
MOST_CONFUSED = 8  # pairs of classes that are listed for a method
Row = Mapping[str, Any]


def method_details(title: str, row: Row, clouds: Mapping[int, bytes], *, opened: bool) -> str:
    """Fold away what one method does class by class and where it is wrong.

    Args:
        title: Markup.
        row: Of results.
        clouds: Pictures of its mistakes (PNG), by position in the data set.
        opened: Not to fold it.
    """
    classes = [[text(label), interval_bar(share, (share, share)), percent(share)] for label, share in row["per_class"].items() if share is not None]
    listed = table(["class", "", "accuracy"], classes)
    mistakes = _mistakes(row, clouds)
    return (f'<details{" open" if opened else ""}><summary>{title}: classes, confusion{", hardest mistakes" if mistakes else ""}</summary>'
            f'<div class="sides"><div>{listed}</div><div>{_confused(row)}{_confusion(row)}</div></div>{mistakes}</details>')


def _mistakes(row: Row, clouds: Mapping[int, bytes]) -> str:
    """Show the mistakes as pictures, each with both probabilities and what its data set calls it."""
    cards = []
    for mistake in row.get("mistakes") or []:
        picture = clouds.get(mistake["index"])
        shown = (f'<img alt="points of {text(mistake["id"])}" src="{data_address(picture, "png")}">' if picture
                 else '<span class="none">no picture</span>')
        true, said = (percent(mistake[key]).replace(" ", "&nbsp;") for key in ("probability_of_true", "probability"))
        name = text(mistake["id"]).replace("/", "/<wbr>")
        cards.append(f'<div class="mistake">{shown}<b>{text(mistake["is"])}</b> {true}<br>called <b>{text(mistake["called"])}</b> {said}<br>'
                     f'<span class="soft">{name}</span></div>')
    about = ('<p><b>Hardest mistakes</b> <span class="soft">The surest wrong answers, at most two of a class: what the object is and what it was '
             "called, with the probabilities of both among all names, and its name in the data set. Near points are bright.</span></p>")
    return f'{about}<div class="mistakes">{"".join(cards)}</div>' if cards else ""


def _confused(row: Row) -> str:
    names, matrix = list(row["per_class"]), row["confusion"]
    pairs = sorted(((matrix[true][said], names[true], names[said]) for true in range(len(names)) for said in range(len(names))
                    if true != said and matrix[true][said]), reverse=True)[:MOST_CONFUSED]
    lines = [[text(true), text(said), str(number)] for number, true, said in pairs]
    return "<p><b>Most often taken for another</b></p>" + table(["is", "is called", "objects"], lines) if lines else ""


def _confusion(row: Row) -> str:
    """Draw the matrix: rows are what objects are, columns what they are called; cells hold counts and are shaded by their share of the row."""
    names, matrix = list(row["per_class"]), row["confusion"]
    left = round(10 + LETTER_PX * min(LETTERS, max(map(len, names))))  # room for the names
    side = CELL_PX * len(names)
    size = f'viewBox="0 0 {left + side} {left + side + 2}" style="width:{left + side}px;max-width:100%"'
    parts = [f'<svg {size} role="img" aria-label="confusion matrix">']
    for line, (label, counts) in enumerate(zip(names, matrix, strict=True)):
        down, total, short = left + CELL_PX * line, sum(counts) or 1, text(label if len(label) <= LETTERS else f"{label[:LETTERS - 1]}…")
        parts.append(f'<text x="{left - 4}" y="{down + 14}" text-anchor="end" font-size="11" fill="currentColor">{short}</text>')
        parts.append(f'<text transform="translate({down + 14} {left - 4}) rotate(-90)" font-size="11" fill="currentColor">{short}</text>')
        for column, count in enumerate(counts):
            if count:
                across = left + CELL_PX * column
                parts.append(f'<g><title>{text(label)} called {text(names[column])}: {count}</title><rect class="bar" x="{across}" y="{down}" '
                             f'width="{CELL_PX}" height="{CELL_PX}" opacity="{0.1 + 0.6 * count / total:.2f}"/><text x="{across + CELL_PX / 2}" '
                             f'y="{down + 13}" text-anchor="middle" font-size="9" fill="currentColor">{count}</text></g>')
    frame = f'<rect x="{left}" y="{left}" width="{side}" height="{side}" class="grid"/></svg>'
    return f'<p class="soft">Rows: what objects are. Columns: what they are called.</p>{"".join(parts)}{frame}'
