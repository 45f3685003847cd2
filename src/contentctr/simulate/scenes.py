"""Pictures of simulated rooms: one scene an activity, in a streamer's room and with nuisances.

A scene differs from the others in its layout and objects, not in a colour: colours, wall and
furniture are the streamer's; framing, brightness and stickers the room's; pose, shake, noise and
blur the frame's. Coordinates are a 16 x 9 grid, y downwards.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from contentctr.simulate.mechanism import SimulatedRoom, SimulatorConfig, stream
from contentctr.simulate.tables import ACTIVITIES

WIDTH, HEIGHT = 256, 144
Colour = tuple[int, int, int]
SKINS: tuple[Colour, ...] = ((244, 208, 177), (224, 172, 125), (165, 112, 76), (106, 70, 48))
HAIRS: tuple[Colour, ...] = (
    (30, 22, 18),
    (92, 56, 28),
    (186, 140, 72),
    (150, 40, 60),
    (70, 80, 160),
)
COVERED = 0.2
"""Share of frames that hearts, sent by viewers, partly cover."""
BLURRED = 0.15
STICKERS = ("LIVE", "HOT", "NEW", "x10", "TOP", "24h")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a streamer's room looks, and how this room frames it."""

    wall: Colour
    furniture: Colour
    cloth: Colour
    accent: Colour
    skin: Colour
    hair: Colour
    long_hair: bool
    pattern: int
    """Of the wall: stripes, tiles, shelves or a window."""
    gain: float
    """Brightness of the room's camera."""
    zoom: float
    mirrored: bool
    sticker: str
    sticker_at: tuple[float, float]
    shows_chat: bool


class Pen:
    """Draws on a 16 x 9 grid with the frame's zoom, shift and mirror applied."""

    def __init__(self, image: Image.Image, zoom: float, shift: tuple[float, float], mirrored: bool):
        self.draw = ImageDraw.Draw(image)
        self._scale = zoom * WIDTH / 16
        self._shift, self._mirrored = shift, mirrored

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of a point of the grid."""
        x = 16 - x if self._mirrored else x
        return (
            WIDTH / 2 + (x - 8 + self._shift[0]) * self._scale,
            HEIGHT / 2 + (y - 4.5 + self._shift[1]) * self._scale,
        )

    def _corners(self, x: float, y: float, rx: float, ry: float) -> list[float]:
        (left, top), (right, bottom) = self.at(x - rx, y - ry), self.at(x + rx, y + ry)
        return [min(left, right), top, max(left, right), bottom]

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """An ellipse about (x, y)."""
        self.draw.ellipse(self._corners(x, y, rx, ry), fill)

    def box(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A rectangle about (x, y)."""
        self.draw.rectangle(self._corners(x, y, rx, ry), fill)

    def poly(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon([self.at(*p) for p in points], fill)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """A thick line with round corners."""
        pixels = max(1, round(width * self._scale))
        self.draw.line([self.at(*p) for p in points], fill, pixels, joint="curve")

    def text(self, x: float, y: float, text: str, fill: Colour, size: float) -> None:
        """Text centred on (x, y), `size` grid cells high."""
        font = _font(max(6, round(size * self._scale)))
        self.draw.text(self.at(x, y), text, fill, font, anchor="mm")


def draw_look(config: SimulatorConfig, room: SimulatedRoom) -> Look:
    """The streamer's look, and the framing of this room."""
    own = stream(config, "look", room.streamer.index)
    hues = own.random(4)
    skin, hair = own.integers(len(SKINS)), own.integers(len(HAIRS))
    rng = stream(config, "framing", room.index)
    return Look(
        wall=_hsv(hues[0], 0.35, own.uniform(0.35, 0.85)),
        furniture=_hsv(hues[1], 0.45, own.uniform(0.3, 0.7)),
        cloth=_hsv(hues[2], 0.7, 0.8),
        accent=_hsv(hues[3], 0.8, 0.95),
        skin=SKINS[skin],
        hair=HAIRS[hair],
        long_hair=bool(own.random() < 0.5),
        pattern=int(own.integers(4)),
        gain=rng.uniform(0.6, 1.25),
        zoom=rng.uniform(0.9, 1.35),
        mirrored=bool(rng.random() < 0.5),
        sticker=str(rng.choice(STICKERS)),
        sticker_at=(rng.uniform(1.5, 14.5), float(rng.choice([0.8, 8.2]))),
        shows_chat=bool(rng.random() < 0.5),
    )


def draw_frame(look: Look, activity: int, rng: np.random.Generator) -> Image.Image:
    """One RGB frame of 256 x 144 that shows `activity`, a row of ACTIVITIES."""
    image = Image.new("RGB", (WIDTH, HEIGHT), look.wall)
    shift = rng.normal(0, 0.4), rng.normal(0, 0.3)
    pen = Pen(image, look.zoom * rng.uniform(0.97, 1.03), shift, look.mirrored)
    SCENES[ACTIVITIES[activity]](pen, look, rng)
    _overlay(image, look, rng)
    if rng.random() < BLURRED:
        image = image.filter(ImageFilter.BoxBlur(int(rng.integers(1, 3))))
    # Noise of a quarter of the size, enlarged: cheap, and looks like a compressed camera picture.
    noise = rng.normal(0, 8, (HEIGHT // 4, WIDTH // 4, 1)).repeat(4, 0).repeat(4, 1)
    gain = look.gain * rng.uniform(0.9, 1.1)
    pixels = np.asarray(image, np.float32) * np.float32(gain) + noise.astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def black_frame() -> Image.Image:
    """What a video shows where the picture is missing."""
    return Image.new("RGB", (WIDTH, HEIGHT))


def _wall(pen: Pen, look: Look) -> None:
    darker = _shade(look.wall, 0.8)
    if look.pattern == 0:
        for x in range(-1, 18, 2):
            pen.box(x, 4, 0.4, 6, darker)
    elif look.pattern == 1:
        for x in range(-1, 18, 2):
            for y in range(-1, 8, 2):
                pen.box(x + y % 4 / 2, y, 0.7, 0.6, darker)
    elif look.pattern == 2:
        for shelf in (1.5, 3.5, 5.5):
            pen.box(13, shelf, 2.4, 0.12, look.furniture)
            for k in range(5):
                book = _shade(look.accent, 0.4 + 0.12 * k)
                pen.box(11.2 + k * 0.8, shelf - 0.7, 0.25, 0.6, book)
    else:
        pen.box(3.2, 3, 2, 2.2, _shade(look.furniture, 1.3))
        pen.box(3.2, 3, 1.7, 1.9, (176, 210, 232))
        pen.box(3.2, 3, 0.08, 1.9, _shade(look.furniture, 1.3))
    pen.box(8, 9.4, 12, 1.2, _shade(look.furniture, 0.7))


def _head(pen: Pen, look: Look, x: float, y: float, size: float, mouth: float) -> None:
    if look.long_hair:
        pen.box(x, y + 0.7 * size, 1.05 * size, 0.9 * size, look.hair)
    pen.oval(x, y - 0.15 * size, 1.1 * size, 1.2 * size, look.hair)
    pen.oval(x, y + 0.1 * size, 0.85 * size, size, look.skin)
    for side in (-0.35, 0.35):
        pen.oval(x + side * size, y, 0.15 * size, 0.12 * size, (250, 250, 250))
        pen.oval(x + side * size, y, 0.07 * size, 0.1 * size, (20, 20, 30))
    pen.oval(x, y + 0.6 * size, 0.3 * size, (0.04 + 0.16 * mouth) * size, (150, 40, 50))


def _chatting(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """A face near the camera, shoulders, a hand now and then."""
    _wall(pen, look)
    x, y = 8 + rng.normal(0, 0.6), 4 + rng.normal(0, 0.2)
    pen.oval(x, 9.3, 4.2, 3, look.cloth)
    pen.box(x, 6.3, 0.7, 1, _shade(look.skin, 0.9))
    _head(pen, look, x, y, 2.3, rng.random())
    if rng.random() < 0.4:
        side = rng.choice([-1, 1])
        pen.oval(x + side * 3.6, rng.uniform(5, 7), 0.8, 0.9, look.skin)


def _dancing(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """A whole body with limbs flung about, on a lit checkered floor."""
    pen.box(8, 4.5, 12, 8, _shade(look.wall, 0.35))
    for x in rng.uniform(0, 16, 3):
        beam = _hsv(rng.random(), 0.5, 0.75)
        pen.poly([(x, -1.5), (x - 2.2, 8), (x + 2.2, 8)], _mix(beam, look.wall, 0.5))
    for row, y in enumerate((7.0, 7.8, 8.8)):
        for k in range(-2, 10):
            tile = look.accent if (k + row) % 2 else _shade(look.accent, 0.35)
            pen.box(8 + (k - 4 + row % 2 * 0.5) * (1.6 + 0.4 * row), y, 0.8 + 0.2 * row, 0.45, tile)
    x, y = 8 + rng.normal(0, 1.6), 3.6 + rng.normal(0, 0.3)
    hip, neck = (x + rng.normal(0, 0.4), y + 1.6), (x, y - 0.6)
    for side in (-1, 1):
        knee = (hip[0] + side * rng.uniform(0.3, 1.4), hip[1] + rng.uniform(0.6, 1.3))
        foot = (knee[0] + rng.normal(0, 0.7), knee[1] + rng.uniform(0.8, 1.3))
        pen.line([hip, knee, foot], _shade(look.cloth, 0.5), 0.5)
        elbow = (neck[0] + side * rng.uniform(0.8, 1.3), neck[1] + rng.uniform(-1, 0.8))
        hand = (elbow[0] + side * rng.uniform(-0.3, 1.1), elbow[1] + rng.uniform(-1.3, 0.6))
        pen.line([neck, elbow, hand], look.skin, 0.35)
    pen.line([neck, hip], look.cloth, 1.1)
    _head(pen, look, x + rng.normal(0, 0.2), y - 1.6, 0.75, rng.random())


def _singing(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """Half a body behind a big microphone, an equaliser below, notes about."""
    pen.box(8, 4.5, 12, 8, _shade(look.wall, 0.5))
    pen.oval(8, 4, 7, 5.5, _shade(look.wall, 0.8))
    x = 6.6 + rng.normal(0, 0.4)
    pen.oval(x, 9.5, 3, 3.6, look.cloth)
    _head(pen, look, x, 3.6 + rng.normal(0, 0.2), 1.7, 0.6 + 0.4 * rng.random())
    tip = (x + 2.2 + rng.normal(0, 0.2), 5 + rng.normal(0, 0.2))
    pen.line([tip, (tip[0] + 2.4, 9.6)], (60, 60, 66), 0.3)
    pen.oval(*tip, 1, 1, (45, 45, 52))
    for k in range(-2, 3):
        pen.line(
            [(tip[0] - 0.9, tip[1] + k * 0.3), (tip[0] + 0.9, tip[1] + k * 0.3)], (150,) * 3, 0.07
        )
    for k, height in enumerate(rng.uniform(0.2, 1.8, 16)):
        pen.box(k + 0.5, 9 - height / 2, 0.35, height / 2, look.accent)
    for nx, ny in rng.uniform((11, 0.8), (15, 4.5), (4, 2)):
        pen.oval(nx, ny, 0.35, 0.27, (250, 250, 250))
        pen.line([(nx + 0.3, ny), (nx + 0.3, ny - 1), (nx + 0.8, ny - 0.8)], (250, 250, 250), 0.12)


def _contest(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """A screen split in two, a guest on the other side, a score bar and a clock above."""
    pen.box(3.5, 4.5, 4.5, 8, look.wall)
    other = Look(
        **{
            **look.__dict__,
            "cloth": _hsv(rng.random(), 0.7, 0.8),
            "skin": SKINS[rng.integers(len(SKINS))],
            "hair": HAIRS[rng.integers(len(HAIRS))],
            "long_hair": bool(rng.random() < 0.5),
        }
    )
    pen.box(12.5, 4.5, 4.5, 8, _hsv(rng.random(), 0.4, 0.6))
    for who, x in ((look, 4.0), (other, 12.0)):
        x += rng.normal(0, 0.3)
        pen.oval(x, 9.6, 2.7, 2.6, who.cloth)
        _head(pen, who, x, 5.2 + rng.normal(0, 0.2), 1.5, rng.random())
    split = 8 + rng.normal(0, 2)
    pen.box(8, 4.5, 0.1, 6, (255, 255, 255))
    pen.box(split / 2 - 0.5, 1.1, split / 2 + 0.5, 0.45, (225, 50, 70))
    pen.box((split + 17) / 2, 1.1, (17 - split) / 2, 0.45, (50, 100, 230))
    pen.text(2, 1.1, str(rng.integers(100, 9999)), (255, 255, 255), 0.8)
    pen.text(14, 1.1, str(rng.integers(100, 9999)), (255, 255, 255), 0.8)
    pen.oval(8, 2.7, 1.3, 1, (250, 200, 40))
    pen.text(8, 2.7, "VS", (60, 20, 20), 1.2)


def _giveaway(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """Wrapped boxes, a wheel of fortune and confetti."""
    _wall(pen, look)
    cx, cy, turn = 4.6 + rng.normal(0, 0.3), 4.2, rng.uniform(0, 360)
    corners = pen._corners(cx, cy, 2.9, 2.9)
    for k in range(8):
        pen.draw.pieslice(corners, turn + 45 * k, turn + 45 * k + 45, _hsv(k / 8, 0.75, 0.95))
    pen.oval(cx, cy, 0.5, 0.5, (255, 255, 255))
    pen.poly([(cx - 0.4, 0.7), (cx + 0.4, 0.7), (cx, 1.7)], (220, 30, 40))
    for k in range(3):
        x, size = 9.2 + 2.5 * k + rng.normal(0, 0.15), rng.uniform(0.9, 1.25)
        paper = _hsv(rng.random(), 0.75, 0.85)
        pen.box(x, 8 - size, size, size, paper)
        pen.box(x, 8 - size, 0.18, size, (255, 240, 200))
        pen.box(x, 8 - size, size, 0.18, (255, 240, 200))
        for side in (-1, 1):
            pen.oval(x + side * 0.4, 8 - 2 * size - 0.2, 0.4, 0.28, (255, 240, 200))
    for fx, fy in rng.uniform((0, 0), (16, 9), (45, 2)):
        pen.box(fx, fy, 0.14, 0.1, _hsv(rng.random(), 0.85, 1.0))


def _product(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """Goods in rows on a white table, a hand holding one up, price tags."""
    _wall(pen, look)
    pen.box(8, 7.6, 12, 2.6, (238, 238, 240))
    shape, hue = rng.integers(3), rng.random()
    for k in range(5):
        x, fill = 1.8 + 2 * k + rng.normal(0, 0.1), _hsv(hue + 0.04 * k, 0.6, 0.8)
        if shape == 0:
            pen.box(x, 5.6, 0.6, 1.3, fill)
            pen.box(x, 4, 0.25, 0.5, _shade(fill, 0.6))
        elif shape == 1:
            pen.box(x, 5.9, 0.8, 1, fill)
            pen.box(x, 5.9, 0.8, 0.25, (250, 250, 250))
        else:
            pen.oval(x, 5.9, 0.8, 1, fill)
        pen.box(x, 7.6, 0.7, 0.4, (255, 235, 90))
        pen.text(x, 7.6, f"{rng.integers(9, 99)}", (180, 20, 30), 0.7)
    y = 3.2 + rng.normal(0, 0.4)
    pen.line([(17, 7.5), (14.4, y + 0.8)], look.skin, 1.1)
    pen.box(13.6, y, 1, 1.6, _hsv(hue, 0.6, 0.85))
    pen.box(13.6, y, 1, 0.45, (250, 250, 250))
    pen.oval(14.5, y + 0.7, 0.8, 0.6, look.skin)
    pen.box(12.2, 1.2, 3.2, 0.75, (225, 40, 50))
    pen.text(12.2, 1.2, f"-{rng.integers(10, 70)}%", (255, 255, 255), 1.1)


def _idle(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """An empty chair at a desk; nobody moves."""
    _wall(pen, look)
    back = _shade(look.furniture, 0.5)
    x = 8 + rng.normal(0, 0.1)
    pen.box(x, 4.6, 1.7, 1.9, back)
    pen.box(x, 4.4, 1.3, 1.3, _shade(look.furniture, 0.75))
    pen.box(x, 6.8, 2, 0.35, back)
    pen.box(8, 8.1, 12, 0.6, _shade(look.furniture, 1.2))
    pen.box(12.5, 6.4, 1.5, 1, (28, 30, 36))
    pen.box(12.5, 7.4, 0.25, 0.4, (28, 30, 36))
    pen.box(4, 7.1, 0.5, 0.5, (236, 232, 220))


def _overlay(image: Image.Image, look: Look, rng: np.random.Generator) -> None:
    """A sticker, lines of chat, hearts: what platforms lay over the picture."""
    pen = Pen(image, 1.0, (0, 0), False)
    if rng.random() < COVERED:
        for x, y, size in rng.uniform((0, 0, 0.8), (16, 9, 2.4), (5, 3)):
            fill = _hsv(rng.random(), 0.6, 1.0)
            pen.oval(x - size / 2, y, size / 2, size / 2, fill)
            pen.oval(x + size / 2, y, size / 2, size / 2, fill)
            pen.poly([(x - size, y + 0.1), (x + size, y + 0.1), (x, y + 1.2 * size)], fill)
    pen.box(*look.sticker_at, 1.2, 0.5, look.accent)
    pen.text(*look.sticker_at, look.sticker, (255, 255, 255), 0.7)
    if look.shows_chat:
        for k, length in enumerate(rng.uniform(1, 3.5, 3)):
            pen.box(0.4 + length / 2, 6 + 0.8 * k, length / 2, 0.25, (235, 235, 235))


SCENES: dict[str, Callable[[Pen, Look, np.random.Generator], None]] = {
    "chatting": _chatting,
    "dancing": _dancing,
    "singing": _singing,
    "contest": _contest,
    "giveaway": _giveaway,
    "product": _product,
    "idle": _idle,
}


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(float(hue) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(c * factor)) for c in colour)
    return red, green, blue


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(one, other, strict=True))
    return red, green, blue
