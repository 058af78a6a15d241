"""Words of the mini-world: colours, other names of the classes, caption templates. All ours."""

from __future__ import annotations

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.10, 0.10), "orange": (0.95, 0.50, 0.10), "yellow": (0.95, 0.85, 0.15), "green": (0.15, 0.60, 0.20),
    "blue": (0.15, 0.25, 0.80), "purple": (0.50, 0.15, 0.65), "pink": (0.95, 0.55, 0.70), "brown": (0.45, 0.28, 0.13),
    "black": (0.08, 0.08, 0.08), "white": (0.95, 0.95, 0.95), "gray": (0.55, 0.55, 0.55), "turquoise": (0.20, 0.75, 0.75),
}

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "monitor": ("display", "screen"), "night stand": ("nightstand", "bedside table"), "sofa": ("couch",), "pedestrian": ("person",),
    "airplane": ("plane",), "bin": ("trash can",), "bag": ("handbag",), "plant": ("potted plant",), "construction vehicle": ("excavator",),
    "dresser": ("chest of drawers",), "bookshelf": ("bookcase",), "truck": ("lorry",), "motorcycle": ("motorbike",), "mug": ("cup",),
}

TEMPLATES = ("a photo of a {}", "image of a {}", "a picture of a {}", "a rendering of a {}", "a drawing of a {}", "this is a {}", "a {}",
             "one {} on a plain background", "point cloud of {}")

SCENE_TEMPLATES = tuple(template for template in TEMPLATES if "plain background" not in template)

COLOUR_SHARE = 0.3  # of the captions name the colour


def compose_caption(class_name: str, colour: str, rng: np.random.Generator, templates: tuple[str, ...] = TEMPLATES) -> tuple[str, bool]:
    """Draw a caption; the second value says whether it names the colour."""
    names = (class_name, *OTHER_NAMES.get(class_name, ()))
    name = names[0] if rng.random() < 0.75 else names[rng.integers(len(names))]
    with_colour = bool(rng.random() < COLOUR_SHARE)
    template = templates[rng.integers(len(templates))]
    return template.format(f"{colour} {name}" if with_colour else name), with_colour


def caption_words(class_names: list[str]) -> list[str]:
    """List every word that captions about these classes can hold, sorted."""
    phrases = [*TEMPLATES, *COLOURS, *class_names, *(name for names in class_names for name in OTHER_NAMES.get(names, ()))]
    return sorted({word for phrase in phrases for word in phrase.replace("{}", " ").split()})
