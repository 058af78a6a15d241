"""Human figures: pedestrians and the riders of two-wheelers. All proportions are ours: shares of the body height."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, Points, box, cylinder, ellipsoid, loft, tube


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees, left then right (left is +x). Swings are positive forwards.

    lean: trunk forwards. thighs, knees: swing of the thigh and bend of the knee. arms, spread, elbows: swing of the upper arm, angle
    away from the body, bend of the elbow forwards. apart: angle of each leg outwards.
    """

    lean: float = 0.0
    thighs: tuple[float, float] = (0.0, 0.0)
    knees: tuple[float, float] = (0.0, 0.0)
    arms: tuple[float, float] = (0.0, 0.0)
    spread: tuple[float, float] = (8.0, 8.0)
    elbows: tuple[float, float] = (10.0, 10.0)
    apart: float = 3.0


def _ray(swing_deg: float, aside_deg: float, side: int) -> Points:
    """Unit vector that hangs down, swung forwards and lifted sideways."""
    swing, aside = np.deg2rad(swing_deg), np.deg2rad(aside_deg)
    return np.array([side * np.sin(aside), -np.cos(aside) * np.cos(swing), np.cos(aside) * np.sin(swing)])


def _oval(x_radius: float, z_radius: float, centre: Points, corners: int = 10) -> Points:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return centre + np.stack([x_radius * np.sin(angles), np.zeros(corners), z_radius * np.cos(angles)], axis=1)


def figure(
    rng: np.random.Generator,
    height: float,
    pose: Pose,
    *,
    dress: str = "trousers",
    girth: float = 1.0,
    head: str = "hair",
    child: bool = False,
) -> list[Part]:
    """A clothed person with the hips above the origin, feet below; not yet put on the ground.

    Args:
        rng: Draws the materials of the clothes.
        height: Of the standing body, metres.
        pose: Joint angles.
        dress: "trousers", "shorts", "skirt" or "coat".
        girth: 1 slim, 1.4 stout.
        head: "hair", "long", "cap", "hat", "hood", "helmet" or "bald".
        child: Larger head and shorter legs.
    """
    h = height
    legs = 0.46 if child else 0.5
    trunk = np.array([0.0, np.cos(np.deg2rad(pose.lean)), np.sin(np.deg2rad(pose.lean))])
    long = h * (0.30 if child else 0.305)
    hips = np.zeros(3)
    chest = trunk * long
    levels = [(0.0, 0.088, 0.062), (0.3, 0.08, 0.058), (0.72, 0.105, 0.068), (0.93, 0.1, 0.055), (1.05, 0.035, 0.032)]
    start = [(-0.12, 0.09, 0.068)] if dress in ("trousers", "shorts") else []
    rings = [_oval(w * h * girth, d * h * girth, trunk * long * t) for t, w, d in start + levels]
    lower = pick(rng, ("dark", "fabric", "accent", "body"), (4, 3, 1, 1))
    parts = [loft(rings)]
    parts += _legs(h * legs, pose, hips, girth, dress, lower)
    parts += _arms(h, pose, chest * 0.92, trunk, girth, "skin" if chance(rng, 0.3) else "body")
    skull = chest + trunk * h * 0.115 + np.array([0, 0, 0.01])
    big = 1.25 if child else 1.0
    parts.append(tube([chest, chest + trunk * 0.06 * h], 0.03 * h, segments=6, role="skin"))
    parts.append(ellipsoid(0.047 * h * big, 0.068 * h * big, 0.056 * h * big, at=skull, segments=10, rings=7, role="skin"))
    return parts + _headgear(rng, head, h * big, skull) + _gown(dress, h * legs, girth, rng)


def _legs(long: float, pose: Pose, hips: Points, girth: float, dress: str, role: str) -> list[Part]:
    parts = []
    for index, side in enumerate((1, -1)):
        top = hips + np.array([side * 0.09 * long * girth, 0.0, 0.0])
        knee = top + 0.49 * long * _ray(pose.thighs[index], pose.apart, side)
        foot = knee + 0.47 * long * _ray(pose.thighs[index] - pose.knees[index], pose.apart * 0.3, side)
        wide = long * 0.085 * girth
        bare = "skin" if dress in ("shorts", "skirt") else role
        parts.append(tube([top, knee], [wide * 1.15, wide * 0.8], segments=7, role=role if dress != "skirt" else bare))
        parts.append(tube([knee, foot], [wide * 0.8, wide * 0.5], segments=7, role=bare))
        toe = 0.5 * min(0.0, pose.thighs[index] - pose.knees[index])
        shoe = ellipsoid(
            0.05 * long, 0.045 * long, 0.14 * long, at=(0.0, -0.01 * long, 0.07 * long), segments=8, rings=5, role="dark", squareness=0.8
        )
        parts.append(shoe.turned("x", -toe).moved(*foot))
    return parts


def _arms(h: float, pose: Pose, shoulders: Points, trunk: Points, girth: float, sleeve: str) -> list[Part]:
    parts = []
    for index, side in enumerate((1, -1)):
        top = shoulders + np.array([side * 0.105 * h * girth, 0, 0])
        elbow = top + 0.17 * h * _ray(pose.arms[index], pose.spread[index], side)
        wrist = elbow + 0.15 * h * _ray(pose.arms[index] + pose.elbows[index], pose.spread[index] * 0.7, side)
        wide = 0.026 * h * girth
        parts.append(tube([top, elbow, wrist], [wide * 1.15, wide * 0.95, wide * 0.75], segments=7, role=sleeve))
        parts.append(ellipsoid(0.02 * h, 0.03 * h, 0.024 * h, at=wrist + (wrist - elbow) * 0.14, segments=6, rings=5, role="skin"))
    return parts


def _gown(dress: str, long: float, girth: float, rng: np.random.Generator) -> list[Part]:
    """Skirt or coat from the hips downwards."""
    if dress not in ("skirt", "coat"):
        return []
    low, flare = float(rng.uniform(0.4, 0.9)) * long, float(rng.uniform(1.1, 1.9))
    wide = 0.19 * long * girth
    rings = [
        _oval(wide * s, wide * 0.8 * s, np.array([0, y, 0]))
        for s, y in ((flare, -low), (1.15, -0.1 * long), (0.95, 0.12 * long), (0.8, 0.2 * long))
    ]
    return [loft(rings, role="body" if dress == "coat" else pick(rng, ("body", "accent")))]


def _headgear(rng: np.random.Generator, head: str, h: float, skull: Points) -> list[Part]:
    x, y, z = (float(value) for value in skull)
    top = ellipsoid(0.052 * h, 0.055 * h, 0.06 * h, segments=10, rings=6, role="dark")
    if head == "hair":
        return [top.moved(x, y + 0.026 * h, z - 0.012 * h)]
    if head == "long":
        return [
            top.moved(x, y + 0.026 * h, z - 0.012 * h),
            ellipsoid(0.05 * h, 0.1 * h, 0.035 * h, at=(x, y - 0.05 * h, z - 0.035 * h), segments=8, rings=6, role="dark"),
        ]
    if head == "cap":
        return [
            top.painted("accent").moved(x, y + 0.028 * h, z - 0.005 * h),
            box(0.08 * h, 0.01 * h, 0.07 * h, at=(x, y + 0.03 * h, z + 0.07 * h), role="accent"),
        ]
    if head == "hat":
        return [
            cylinder(0.1 * h, 0.008 * h, at=(x, y + 0.035 * h, z), segments=12, role="fabric"),
            cylinder(0.055 * h, 0.06 * h, top_radius=0.047 * h, at=(x, y + 0.035 * h, z), segments=10, role="fabric"),
        ]
    if head == "hood":
        return [ellipsoid(0.06 * h, 0.08 * h, 0.065 * h, at=(x, y, z - 0.015 * h), segments=10, rings=6)]
    if head == "helmet":
        shell = ellipsoid(
            0.072 * h,
            0.075 * h,
            0.08 * h,
            at=(x, y + 0.02 * h, z),
            segments=10,
            rings=7,
            role=pick(rng, ("accent", "light", "dark", "body")),
        )
        return [shell, box(0.1 * h, 0.045 * h, 0.02 * h, at=(x, y - 0.005 * h, z + 0.065 * h), role="glass")]
    return []
