"""Open-vocabulary recognition of 3-D objects by transferring CLIP to point clouds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip2x.predict import Recognizer as Recognizer
    from clip2x.predict import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first used, so that `import clip2x` costs nothing."""
    if name in ("load", "Recognizer"):
        from clip2x import predict

        return getattr(predict, name)
    raise AttributeError(f"module 'clip2x' has no attribute {name!r}")
