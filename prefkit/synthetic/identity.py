"""Who is drawn: face, hair, clothes and voice, from one number."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

# Muted colours only: the mouth's inside and the worn markers keep colours of their own (drawing.py),
# so that the truth can be read from a clip by colour (reading.py).
SKINS: tuple[Colour, ...] = ((241, 205, 176), (224, 178, 143), (198, 146, 108), (158, 108, 76), (118, 78, 56))
HAIRS: tuple[Colour, ...] = ((38, 30, 28), (78, 54, 40), (112, 82, 62), (140, 132, 126), (60, 42, 52))
CLOTHES: tuple[Colour, ...] = ((92, 98, 112), (150, 140, 128), (104, 78, 100), (70, 92, 92), (180, 174, 168))
BACKGROUNDS: tuple[Colour, ...] = ((196, 206, 214), (214, 208, 198), (188, 196, 186), (206, 196, 206), (172, 184, 198))


@dataclass(frozen=True)
class Identity:
    """Traits of one person. Lengths are pixels of a 64 × 64 frame, frequencies Hz."""

    number: int
    skin: Colour
    hair: Colour
    clothes: Colour
    background: Colour
    long_hair: bool
    face_width: float  # half width
    face_height: float  # half height
    eye_distance: float  # half distance between the eyes' centres
    mouth_width: float  # half width at rest
    brow_thickness: float
    pitch: float  # of the voice
    vocal_tract: float  # scales the formants

    @property
    def name(self) -> str:
        """What the conditions table calls this person."""
        return f"person-{self.number:06d}"


def make_identity(number: int) -> Identity:
    """Returns the person with this number, always the same."""
    rng = np.random.default_rng([11, number])
    return Identity(
        number=number,
        skin=_pick(rng, SKINS),
        hair=_pick(rng, HAIRS),
        clothes=_pick(rng, CLOTHES),
        background=_pick(rng, BACKGROUNDS),
        long_hair=bool(rng.random() < 0.5),
        face_width=float(rng.uniform(13.5, 15.5)),
        face_height=float(rng.uniform(17.5, 19.0)),
        eye_distance=float(rng.uniform(5.6, 6.6)),
        mouth_width=float(rng.uniform(5.0, 6.2)),
        brow_thickness=float(rng.uniform(1.0, 1.7)),
        pitch=float(rng.uniform(95, 230)),
        vocal_tract=float(rng.uniform(0.9, 1.15)),
    )


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, a little varied."""
    base = np.array(colours[rng.integers(len(colours))])
    red, green, blue = np.clip(base + rng.integers(-8, 9, 3), 0, 255)
    return int(red), int(green), int(blue)
