"""Draws the haircuts: the hair behind the head and the hair on it.

``width`` is half of the head's width, in the head frame.
"""

from __future__ import annotations

import numpy as np

from preparation.synthetic.shapes import HeadFrame

_HALF_TURN = np.linspace(0, np.pi, 33)


def hair_behind(head: HeadFrame, style: str, width: float) -> None:
    """Draws the hair that is visible around the head; most short styles have none."""
    if style in ("long", "bob", "fringe"):
        length = {"long": 1.5, "bob": 0.72, "fringe": 1.0}[style]
        upper = np.stack([-(width + 0.17) * np.cos(_HALF_TURN), -0.1 - 1.04 * np.sin(_HALF_TURN)], 1)
        flare = width + (0.2 if style == "long" else 0.13)
        lower = np.array([[flare, length * 0.6], [flare * 0.8, length], [-flare * 0.8, length], [-flare, length * 0.6]])
        x, y = np.concatenate([upper, lower]).T
        head.add("hair_back", x[None], y[None])
    if style == "curly":
        bumps = 1 + 0.06 * np.cos(np.linspace(0, 26 * np.pi, 120))
        turn = np.linspace(-0.12 * np.pi, 1.12 * np.pi, 120)
        head.add(
            "hair_back", (-(width + 0.2) * bumps * np.cos(turn))[None], (-0.12 - 1.05 * bumps * np.sin(turn))[None]
        )
    if style == "bun":
        head.ellipse("hair_back", 0.0, -1.18, 0.3, 0.27)
        head.ellipse("hair_back", 0.0, -0.25, width + 0.07, 0.88)


def hair_above(head: HeadFrame, style: str, width: float) -> None:
    """Draws the hair on the head, down to the hairline."""
    if style == "bald":
        return
    u = np.linspace(-1, 1, 41)
    dome_x, dome_y = (width + 0.05) * np.sin(u * np.pi / 2), -0.08 - 1.02 * np.cos(u * np.pi / 2)
    line = {
        "short": -0.68 + 0.1 * u**2 + 0.5 * np.abs(u) ** 8,
        "side": -0.66 + 0.2 * u + 0.14 * u**2 + 0.7 * np.abs(u) ** 8,
        "curly": -0.68 + 0.12 * u**2 + 0.5 * np.abs(u) ** 8 + 0.025 * np.cos(u * 22),
        "spiky": -0.66 + 0.05 * np.abs(((u * 5) % 2) - 1) + 0.6 * np.abs(u) ** 8,
        "long": -0.72 + 0.5 * np.abs(u) ** 2.2 + 0.35 * np.abs(u) ** 8,
        "bob": -0.7 + 0.22 * np.abs(u + 0.25) ** 1.5 + 0.6 * np.abs(u) ** 8,
        "bun": -0.7 + 0.28 * np.abs(u) ** 2 + 0.4 * np.abs(u) ** 8,
        "fringe": -0.66 + 0.03 * np.cos(u * 18) + 0.6 * np.abs(u) ** 10,
    }[style]
    if style == "spiky":
        dome_y = dome_y - 0.14 * (1 - np.abs(((u * 6) % 2) - 1)) * np.cos(u * np.pi / 2)
    x = np.concatenate([dome_x, dome_x[::-1] * 0.92])
    head.add("hair", x[None], np.concatenate([dome_y, np.maximum(line, dome_y)[::-1]])[None])
    top = np.minimum(dome_y + 0.06, line)
    shade = np.linspace(-0.55, 0.35, 12)[None]
    crown = np.interp(shade[0], dome_x / (width + 0.05), top)[None]
    if style != "spiky":
        head.stroke(
            "hair_shadow", shade * (width + 0.05), crown + 0.09 + 0.03 * np.sin(shade * 9), 0.035 * np.cos(2 * shade)
        )
