"""What a prompt does to a picture: a table of effects, and the choice among them.

Plain data, without PyAV, so that the choice can be read and tested by itself;
``_render`` turns the steps into FFmpeg filters.
"""

from __future__ import annotations

import hashlib
import re

from attrs import field, frozen

MAX_EFFECTS = 3
"""How many effects of one prompt are combined; more of them only make mud."""


@frozen
class Filter:
    """One FFmpeg filter with its options, in FFmpeg's own spelling."""

    name: str
    options: str = ""


@frozen
class Mirror:
    """The left half of the picture, and its mirror image in place of the right half."""


@frozen
class Particles:
    """Specks that move across the picture: flakes, drops, stars, bubbles, sparks.

    Attributes:
        colour: FFmpeg's name of their colour.
        density: The share of cells that hold one, from 0 to 1.
        width: Width of one cell in pixels of a picture 320 pixels wide.
        height: Height of one cell, likewise.
        fall: Share of the picture's height they fall in one frame; negative rises.
        drift: Share of the picture's width they move sideways in one frame.
        blur: Radius of their softening in pixels, 0 for none.
        opacity: From 0, unseen, to 1.
    """

    colour: str
    density: float
    width: int
    height: int
    fall: float = 0.0
    drift: float = 0.0
    blur: float = 0.0
    opacity: float = 1.0


Step = Filter | Mirror | Particles


@frozen
class Effect:
    """A change that can be seen, and the words of a prompt that ask for it."""

    name: str
    words: tuple[str, ...]
    steps: tuple[Step, ...]
    pattern: re.Pattern[str] = field(init=False, repr=False, eq=False)

    @pattern.default
    def _pattern(self) -> re.Pattern[str]:
        # Whole words with their common endings: "rain" is in "rainy", not in "train".
        # Chinese writes no spaces, so that there a character counts wherever it is.
        latin = "|".join(word for word in self.words if word.isascii())
        other = "".join(f"|{word}" for word in self.words if not word.isascii())
        return re.compile(rf"\b(?:{latin})(?:s|es|y|ing|ed)?\b{other}", re.IGNORECASE)


# In the order in which they are applied: colour, then geometry, then what flies in front.
EFFECTS: tuple[Effect, ...] = (
    Effect("negative", ("negative", "invert", "opposite", "x-ray"), (Filter("negate"),)),
    Effect(
        "monochrome",
        ("black and white", "monochrome", "noir", "gr[ae]yscale"),
        (Filter("hue", "s=0"), Filter("curves", "all='0/0 0.3/0.12 0.7/0.85 1/1'")),
    ),
    Effect(
        "old film",
        ("old film", "sepia", "vintage", "retro", "silent", "19[0-9]0"),
        (
            Filter("colorchannelmixer", ".39:.77:.19:0:.35:.69:.17:0:.27:.53:.13:0"),
            Filter("noise", "alls=28:allf=t+u"),
            Filter("vignette", "PI/3.4"),
            Particles("0x201008", 0.02, 1, 40, fall=0.11, drift=0.37, opacity=0.6),
        ),
    ),
    Effect(
        "sunset",
        ("sunset", "sunrise", "golden", "warm", "dusk", "autumn", "desert", "夕"),
        (
            Filter("colorchannelmixer", "1.2:.25:0:0:.1:.68:0:0:.05:0:.38:0"),
            Filter("vignette", "PI/4"),
        ),
    ),
    Effect(
        "underwater",
        ("underwater", "water", "sea", "ocean", "dive", "diving", "fish", "aquarium", "海", "水"),
        (
            Filter("colorchannelmixer", ".15:.1:.05:0:.1:.6:.25:0:.1:.35:.85:0"),
            Filter("gblur", "sigma=1.2"),
            Filter("rotate", "a=0.05*sin(2.4*t):ow=iw:oh=ih:c=0x082838:bilinear=0"),
            Particles("0xd8ffff", 0.012, 6, 6, fall=-0.016, drift=0.002, blur=1.2, opacity=0.75),
        ),
    ),
    Effect(
        "night",
        ("night", "dark", "moon", "midnight", "star", "starry", "夜"),
        (
            Filter("colorchannelmixer", ".16:.08:.05:0:.09:.2:.1:0:.2:.2:.45:0"),
            Particles("0xfff8d0", 0.006, 2, 2, drift=0.0006, blur=0.4),
        ),
    ),
    Effect(
        "fire",
        ("fire", "flame", "lava", "burn", "volcano", "explosion", "explode", "hell", "火"),
        (
            Filter("colorchannelmixer", ".75:.65:.25:0:.18:.28:.05:0:.04:.03:.06:0"),
            Particles("0xffd040", 0.02, 3, 4, fall=-0.03, drift=0.006, blur=0.6),
            Particles("0xff6010", 0.02, 5, 6, fall=-0.018, drift=-0.004, blur=1.5, opacity=0.8),
        ),
    ),
    Effect(
        "fog",
        ("fog", "foggy", "mist", "cloud", "smoke", "smoky", "haze", "hazy", "dream", "雾"),
        (
            Filter("gblur", "sigma=3.5"),
            Filter("lutyuv", "y='105+val*0.52':u='128+(val-128)*0.45':v='128+(val-128)*0.45'"),
        ),
    ),
    Effect(
        "neon",
        ("neon", "cyberpunk", "futuristic", "sci-fi", "robot", "laser", "glow"),
        (
            Filter("sobel", "planes=1:scale=5"),
            Filter("hue", "h=70:s=3"),
            Filter("curves", "b='0/0.25 1/1':g='0/0 0.6/0.3 1/1'"),
        ),
    ),
    Effect(
        "sketch",
        ("sketch", "drawing", "drawn", "pencil", "comic", "cartoon", "anime"),
        (
            Filter("sobel", "planes=1:scale=4"),
            Filter("lutyuv", "y=235-val:u=118:v=134"),
        ),
    ),
    Effect(
        "pixels",
        ("pixel", "pixelated", "8-bit", "8 bit", "video game", "lego", "brick", "block"),
        (Filter("pixelize", "w=12:h=12"), Filter("hue", "s=1.6")),
    ),
    Effect(
        "rainbow",
        ("rainbow", "disco", "party", "psychedelic", "colou?rful", "carnival"),
        (Filter("hue", "h=90+200*t:s=2"),),
    ),
    Effect(
        "mirror",
        ("mirror", "mirrored", "reflection", "reflect", "symmetric", "twin", "kaleidoscope"),
        (Mirror(),),
    ),
    Effect("upside down", ("upside down", "upside-down", "flip", "gravity"), (Filter("vflip"),)),
    Effect(
        "zoom",
        ("zoom", "closer", "close-up", "closeup", "approach", "flies", "fly"),
        (Filter("zoompan", "z='1.25+min(on/90,1)*1.25':x='iw*0.42*(1-1/zoom)':y='ih*0.62*(1-1/zoom)'"
                ":d=1:fps=24:s={size}"),),
    ),
    Effect(
        "spin",
        ("spin", "spinning", "rotate", "rotating", "dance", "dancing", "tornado", "dizzy"),
        (Filter("rotate", "a=2.2*t+0.5:ow=iw:oh=ih:c=0x101018"),),
    ),
    Effect(
        "snow",
        ("snow", "snowy", "winter", "ice", "icy", "blizzard", "christmas", "frozen", "雪", "冬"),
        (
            Filter("colorchannelmixer", ".5:.25:.2:0:.2:.6:.25:0:.2:.3:.7:0"),
            Filter("lutyuv", "y='40+val*0.84'"),
            Particles("white", 0.02, 3, 3, fall=0.014, drift=0.003, blur=0.6, opacity=0.9),
            Particles("white", 0.014, 6, 6, fall=0.024, drift=-0.004, blur=1.3),
        ),
    ),
    Effect(
        "rain",
        ("rain", "rainy", "storm", "stormy", "thunder", "wet", "shower", "雨"),
        (
            Filter("colorchannelmixer", ".32:.2:.1:0:.18:.36:.12:0:.18:.25:.42:0"),
            Particles("0xc8d8ff", 0.025, 1, 12, fall=0.07, drift=-0.012, opacity=0.55),
            Particles("0xe8f0ff", 0.02, 1, 22, fall=0.12, drift=-0.02, opacity=0.7),
        ),
    ),
)  # fmt: skip

# Shapes a picture can take when no word of the prompt is known.
_FALLBACKS = ("pixels", "mirror", "upside down", "zoom", "spin", "fog", "sketch", "neon")


def seed_of(prompt: str) -> int:
    """The number that everything chosen by chance follows from, the same for equal prompts."""
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big")


def choose_effects(prompt: str) -> tuple[Effect, ...]:
    """The effects that a prompt asks for, in the order in which to apply them.

    Args:
        prompt: Any text. Known words choose; a text without one gets a turn of its
            colours and a shape that follow from its hash.

    Returns:
        One to ``MAX_EFFECTS`` effects, always the same for the same text.
    """
    chosen = [effect for effect in EFFECTS if effect.pattern.search(prompt)]
    if chosen:
        return tuple(chosen[:MAX_EFFECTS])
    seed = seed_of(prompt)
    turn = 60 + 30 * (seed % 9)
    shape = _FALLBACKS[seed // 9 % len(_FALLBACKS)]
    named = {effect.name: effect for effect in EFFECTS}
    tint = Effect("tint", ("tint",), (Filter("hue", f"h={turn}:s=1.3"),))
    return (tint, named[shape])
