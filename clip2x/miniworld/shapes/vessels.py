"""Hollow ware: mugs, bowls, vases. Thin walls, real openings. All sizes are ours: plausible metres."""

from __future__ import annotations

import numpy as np

from clip2x.miniworld.shapes.draws import chance, pick
from clip2x.miniworld.shapes.parts import Part, box, cylinder, ellipsoid, grounded, lathe, rods, tube

Profile = list[tuple[float, float]]


def smooth(profile: Profile, steps: int = 16) -> Profile:
    """Resample a rough profile (radius, y) along a smooth curve through its corners (Catmull-Rom)."""
    knots = np.array([profile[0], *profile, profile[-1]], dtype=float)
    place = np.linspace(0, len(profile) - 1 - 1e-9, steps)
    index = place.astype(int)
    t = (place - index)[:, None]
    before, start, end, after = (knots[index + shift] for shift in range(4))
    curve = 0.5 * (
        2 * start + (end - before) * t + (2 * before - 5 * start + 4 * end - after) * t**2 + (3 * start - before - 3 * end + after) * t**3
    )
    return [(max(float(r), 0.0), float(y)) for r, y in curve]


def hollow(outside: Profile, wall: float, *, segments: int = 24, role: str = "body", floor: float | None = None) -> Part:
    """Vessel of revolution: `outside` runs from the foot to the rim; `wall` is its thickness, `floor` the height of the inner bottom."""
    low = outside[0][1] + wall if floor is None else floor
    inner = [(max(r - wall, 0.1 * r), y) for r, y in outside[::-1] if y > low]
    wide = float(np.interp(low, [y for _, y in outside], [r for r, _ in outside]))
    return lathe([(0.0, outside[0][1]), *outside, *inner, (max(wide - wall, 0.1 * wide), low), (0.0, low)], segments=segments, role=role)


def handle(
    top: tuple[float, float],
    bottom: tuple[float, float],
    reach: float,
    thick: float,
    *,
    square: float = 0.0,
    role: str = "body",
    flat: float = 1.0,
) -> Part:
    """Handle in the (x, y) plane from (x, y) `top` to `bottom`, bulging by `reach` along +x; `square` 1 makes it angular."""
    angles = np.linspace(np.pi / 2, -np.pi / 2, 9)
    power = 1 - 0.6 * square
    across = np.abs(np.cos(angles)) ** power
    along = 0.5 + 0.5 * np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power
    x = bottom[0] + along * (top[0] - bottom[0]) + reach * across
    y = bottom[1] + along * (top[1] - bottom[1])
    path = np.stack([x, y, np.zeros(9)], axis=1)
    path = path[np.append(True, np.linalg.norm(np.diff(path, axis=0), axis=1) > 1e-6)]
    return tube(path, thick, segments=6, role=role).scaled(z=flat)


def mug(rng: np.random.Generator) -> list[Part]:
    """Mug or cup: straight, conical, barrel, bowl, beer mug, cup with saucer, travel mug; one handle, rarely none or two."""
    kind = pick(rng, ("straight", "conical", "barrel", "bowl", "beer", "saucer", "travel", "square"), (5, 3, 3, 2, 2, 2, 1, 1))
    radius, high = float(rng.uniform(0.036, 0.05)), float(rng.uniform(0.08, 0.12))
    if kind == "beer":
        radius, high = float(rng.uniform(0.042, 0.055)), float(rng.uniform(0.13, 0.18))
    if kind in ("bowl", "saucer"):
        radius, high = float(rng.uniform(0.04, 0.06)), float(rng.uniform(0.05, 0.075))
    foot = {"conical": 0.72, "bowl": 0.5, "saucer": 0.55, "travel": 0.75, "barrel": 0.8}.get(kind, float(rng.uniform(0.92, 1.0))) * radius
    middle = {"barrel": 1.18, "bowl": 0.95, "saucer": 0.92}.get(kind, 0.5 * (1 + foot / radius)) * radius
    if kind == "travel":
        high = float(rng.uniform(0.15, 0.2))
    outside = [
        (foot * 0.94, 0.0),
        (foot, 0.004),
        (0.5 * (foot + middle) if kind != "barrel" else middle * 0.98, 0.25 * high),
        (middle, 0.5 * high),
        (0.5 * (radius + middle), 0.78 * high),
        (radius, high),
    ]
    if kind in ("bowl", "saucer", "barrel"):
        outside = smooth(outside, 12)
    wall = float(rng.uniform(0.003, 0.006))
    parts = [hollow(outside, wall, segments=4 if kind == "square" else 24)]
    if kind == "square":
        parts = [parts[0].turned("y", 45.0)]
        radius, middle, foot = radius * 0.71, middle * 0.71, foot * 0.71
    if kind == "beer":
        parts.append(box(0.006, high * 0.75, 0.012).repeated([(0.0, 0.1 * high, radius * 0.985)]))
    if kind == "travel":
        parts += [
            cylinder(radius * 1.06, 0.015, top_radius=radius * 0.9, at=(0.0, high, 0.0), segments=20, role="dark"),
            cylinder(radius * 1.0, 0.03, at=(0.0, 0.45 * high, 0.0), role="accent"),
        ]
    parts += _mug_handles(rng, kind, radius, foot, high)
    if kind == "saucer":
        rim = float(rng.uniform(1.5, 1.8)) * radius
        plate = [(0.55 * rim, 0.0), (0.6 * rim, 0.004), (rim, 0.016)]
        parts = [hollow(plate, 0.003, floor=0.005), *(part.moved(y=0.006) for part in parts)]
    if chance(rng, 0.25):
        surface = high * float(rng.uniform(0.6, 0.85))
        parts.append(cylinder(0.8 * min(radius, foot * 1.1), 0.003, at=(0, surface, 0), segments=16, role=pick(rng, ("dark", "wood"))))
    spin = float(rng.uniform(0, 360))
    return grounded([part.turned("y", spin) for part in parts])


def _mug_handles(rng: np.random.Generator, kind: str, radius: float, foot: float, high: float) -> list[Part]:
    if (kind == "travel" and chance(rng, 0.5)) or chance(rng, 0.03):
        return []
    top_y, low_y = float(rng.uniform(0.75, 0.92)) * high, float(rng.uniform(0.12, 0.35)) * high
    edge = [radius * 0.97, foot + (radius - foot) * low_y / high]
    if kind in ("bowl", "saucer"):
        edge[1], low_y = radius * 0.85, 0.38 * high
    square = float(rng.uniform(0, 1)) if chance(rng, 0.6) else 0.0
    grip = handle(
        (edge[0], top_y),
        (edge[1] * 0.97, low_y),
        float(rng.uniform(0.5, 0.85)) * min(radius, 0.042),
        float(rng.uniform(0.0035, 0.0065)),
        square=square,
        flat=float(rng.uniform(1.0, 2.0)),
    )
    return [grip, grip.mirrored("x")] if chance(rng, 0.04) else [grip]


def bowl(rng: np.random.Generator) -> list[Part]:
    """Bowl: hemispherical, conical, flat, footed, square, mixing bowl, fruit bowl with fruit, casserole with ears, pet bowl."""
    kind = pick(rng, ("round", "cone", "flat", "footed", "square", "deep", "wavy", "pet"), (4, 3, 3, 2, 1, 3, 1, 1))
    radius = float(rng.uniform(0.06, 0.18))
    high = radius * {"flat": 0.4, "deep": 1.15, "footed": 0.9, "pet": 0.5}.get(kind, float(rng.uniform(0.55, 0.9)))
    foot = float(rng.uniform(0.35, 0.55)) * radius
    forms = {
        "cone": [(foot, 0.0), (foot, 0.05), (radius, 1.0)],
        "flat": [(foot * 1.3, 0.0), (foot * 1.35, 0.1), (radius * 0.8, 0.45), (radius, 1.0)],
        "pet": [(radius * 1.15, 0.0), (radius * 1.1, 0.1), (radius, 0.95), (radius * 0.95, 1.0)],
    }
    shape = forms.get(
        kind, [(foot, 0.0), (foot, 0.06), (radius * 0.72, 0.25), (radius * 0.93, 0.6), (radius * float(rng.uniform(0.96, 1.04)), 1.0)]
    )
    outside = [(r, y * high) for r, y in shape]
    outside = outside if kind in ("cone", "pet") else smooth(outside, 12)
    if kind == "footed":
        stem = [(foot * 1.2, 0.0), (foot * 1.1, 0.03 * high), (foot * 0.5, 0.12 * high), (foot * 0.5, 0.3 * high)]
        outside = stem + [(max(r, foot * 0.5), 0.3 * high + 0.7 * y) for r, y in outside[1:]]
    wall = radius * float(rng.uniform(0.025, 0.08))
    floor = {"footed": 0.37 * high, "pet": 0.3 * high}.get(kind, 0.12 * high + wall)
    parts = [hollow(outside, wall if kind != "pet" else 0.2 * radius, segments=4 if kind == "square" else 28, floor=floor)]
    if kind == "square":
        parts = [parts[0].turned("y", 45.0)]
    if kind == "wavy":
        angle = np.arctan2(parts[0].vertices[:, 0], parts[0].vertices[:, 2])
        swell = 1 + 0.07 * np.sin(angle * int(rng.integers(5, 9))) * (parts[0].vertices[:, 1] / high)
        parts = [Part(parts[0].vertices * np.stack([swell, np.ones_like(swell), swell], axis=1), parts[0].faces, parts[0].role)]
    elif chance(rng, 0.15):
        parts.append(
            lathe(
                [(radius * 1.03, high * 0.97), (radius * 1.06, high), (radius * 0.97, high * 1.02), (radius * 1.03, high * 0.97)],
                segments=28,
                role="accent",
            )
        )
    if kind in ("deep", "round") and chance(rng, 0.15):
        ear = handle((radius * 0.93, high * 0.82), (radius * 0.9, high * 0.6), radius * 0.3, radius * 0.05)
        parts += [ear, ear.mirrored("x")]
    if chance(rng, 0.28) and kind not in ("square", "flat"):
        parts += _filling(rng, radius, high)
    return grounded(parts)


def _filling(rng: np.random.Generator, radius: float, high: float) -> list[Part]:
    """Fruit, or soup up to below the rim."""
    if chance(rng, 0.4):
        return [cylinder(radius * 0.84, 0.004, at=(0, high * 0.72, 0), segments=20, role=pick(rng, ("accent", "wood", "plant")))]
    parts = []
    for index in range(int(rng.integers(3, 7))):
        angle, size = index * 1.3, radius * float(rng.uniform(0.22, 0.33))
        far = radius * 0.42 * (index > 0)
        parts.append(
            ellipsoid(
                size,
                size * 0.95,
                size,
                at=(far * np.cos(angle), high * 0.75 + 0.1 * size, far * np.sin(angle)),
                segments=10,
                rings=7,
                role=pick(rng, ("accent", "plant", "skin")),
            )
        )
    return parts


VASES: list[Profile] = [  # Ours: (radius over the largest radius, height over the full height), foot to rim.
    [(0.6, 0.0), (0.62, 0.03), (0.95, 0.35), (0.98, 0.5), (0.6, 0.8), (0.42, 0.9), (0.55, 1.0)],
    [(0.45, 0.0), (0.48, 0.04), (0.75, 0.4), (1.0, 0.72), (0.85, 0.88), (0.5, 0.95), (0.58, 1.0)],
    [(0.8, 0.0), (0.82, 0.02), (1.0, 0.25), (0.8, 0.5), (0.4, 0.72), (0.35, 0.88), (0.5, 1.0)],
    [(0.85, 0.0), (0.87, 0.05), (0.92, 0.5), (1.0, 1.0)],
    [(0.6, 0.0), (0.62, 0.05), (0.55, 0.4), (0.7, 0.75), (1.0, 1.0)],
    [(0.5, 0.0), (0.4, 0.06), (0.3, 0.12), (0.75, 0.4), (0.95, 0.65), (0.7, 0.85), (0.8, 1.0)],
    [(0.7, 0.0), (0.95, 0.15), (1.0, 0.28), (0.8, 0.42), (0.3, 0.55), (0.25, 0.75), (0.26, 0.95), (0.35, 1.0)],
    [(0.55, 0.0), (0.85, 0.2), (1.0, 0.5), (0.85, 0.8), (0.55, 1.0)],
    [(0.7, 0.0), (0.5, 0.05), (0.42, 0.15), (1.0, 0.55), (0.6, 0.75), (0.45, 0.82), (0.9, 1.0)],
]


def vase(rng: np.random.Generator) -> list[Part]:
    """Vase of many profiles, round, faceted or square, with neck, handles, rings or flowers."""
    high = float(rng.uniform(0.14, 0.6))
    radius = high * float(rng.uniform(0.16, 0.38))
    profile = VASES[int(rng.integers(len(VASES)))]
    jitter = rng.uniform(0.9, 1.1, len(profile))
    outside = [(r * radius * float(j), y * high) for (r, y), j in zip(profile, jitter, strict=True)]
    outside = smooth(outside, 14) if chance(rng, 0.8) else outside
    segments = pick(rng, (24, 24, 24, 8, 6, 4))
    body = hollow(outside, max(0.003, 0.06 * radius), segments=segments)
    if segments == 24 and chance(rng, 0.2):
        angle = np.arctan2(body.vertices[:, 0], body.vertices[:, 2])
        flute = 1 + 0.05 * np.cos(angle * 8)
        body = Part(body.vertices * np.stack([flute, np.ones_like(flute), flute], axis=1), body.faces, body.role)
    if chance(rng, 0.12):
        body = body.scaled(z=float(rng.uniform(0.45, 0.7)))
    parts = [body]
    neck = float(np.interp(0.85 * high, [y for _, y in outside], [r for r, _ in outside]))
    if chance(rng, 0.2) and segments == 24:
        waist = float(np.interp(0.55 * high, [y for _, y in outside], [r for r, _ in outside]))
        ear = handle(
            (neck * 0.95, 0.86 * high),
            (waist * 0.96, 0.55 * high),
            radius * float(rng.uniform(0.3, 0.6)),
            radius * 0.07,
            role=pick(rng, ("body", "accent")),
        )
        parts += [ear, ear.mirrored("x")]
    if chance(rng, 0.25):
        y = float(rng.uniform(0.25, 0.6)) * high
        size = float(np.interp(y, [p for _, p in outside], [r for r, _ in outside]))
        parts.append(
            lathe(
                [(size * 0.9, y), (size * 1.03, y), (size * 1.03, y + 0.05 * high), (size * 0.9, y + 0.05 * high), (size * 0.9, y)],
                segments=segments,
                role="accent",
            )
        )
    if chance(rng, 0.3):
        parts += bouquet(rng, high, outside[-1][0])
    return grounded(parts)


def bouquet(rng: np.random.Generator, high: float, mouth: float) -> list[Part]:
    """Stems with blossoms and leaves that come out of a vase of this height and mouth radius."""
    parts: list[Part] = []
    count = int(rng.integers(3, 9))
    angles = rng.uniform(0, 2 * np.pi, count)
    lean, tall = rng.uniform(0.05, 0.5, count), rng.uniform(0.5, 0.9, count) * high
    tips = np.stack([np.cos(angles) * lean * tall, high + tall * np.sqrt(1 - lean**2), np.sin(angles) * lean * tall], axis=1)
    feet = np.stack([-0.3 * mouth * np.cos(angles), np.full(count, 0.3 * high), -0.3 * mouth * np.sin(angles)], axis=1)
    parts.append(rods(feet, tips, 0.006 * high + 0.0008, sides=4, role="plant"))
    size = high * float(rng.uniform(0.07, 0.13))
    bloom = ellipsoid(size, size * 0.7, size, segments=8, rings=5, role=pick(rng, ("accent", "light", "fabric")))
    leaf = ellipsoid(size * 0.4, size * 1.3, size * 0.12, segments=6, rings=5, role="plant")
    return [*parts, bloom.repeated(tips), leaf.repeated(feet + 0.75 * (tips - feet) + [size * 0.5, 0, 0])]
