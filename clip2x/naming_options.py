"""What commands that name things share: prompts as the command line gives them, and a word about words that a CLIP does not know."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clip2x.predict import Recognizer


def templates_of(text: str | None) -> list[str] | None:
    """Read `--templates`: prompts separated by |; None where none are given."""
    return [part.strip() for part in text.split("|")] if text else None


def note_unknown_words(recognizer: Recognizer, names: Sequence[str], means_nothing: str = "its score") -> None:
    """Say on stderr which names hold a word that a small CLIP never saw, and what therefore means nothing."""
    for name in recognizer.unknown_words(names):
        words = name.lower().split()
        unknown = recognizer.unknown_words(words)
        if len(unknown) == len(words):
            print(f"note: the small CLIP never saw a word of {name!r}; {means_nothing} means nothing.", file=sys.stderr)
        else:
            print(f"note: the small CLIP never saw {' and '.join(map(repr, unknown))} of {name!r}, and goes by the other words.", file=sys.stderr)
