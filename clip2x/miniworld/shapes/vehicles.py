"""Generators of everything that drives, flies or swims, by class name. Frame: y up, on y = 0, front towards +z, metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clip2x.miniworld.shapes.aircraft import airplane
from clip2x.miniworld.shapes.buses import bus
from clip2x.miniworld.shapes.cars import car
from clip2x.miniworld.shapes.construction import construction_vehicle
from clip2x.miniworld.shapes.cycles import bicycle, motorcycle
from clip2x.miniworld.shapes.parts import Part
from clip2x.miniworld.shapes.ships import ship
from clip2x.miniworld.shapes.trucks import trailer, truck

VEHICLES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "trailer": trailer,
    "construction vehicle": construction_vehicle,
    "motorcycle": motorcycle,
    "bicycle": bicycle,
    "airplane": airplane,
    "ship": ship,
}
