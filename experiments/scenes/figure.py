"""Who walks through a scene: build, pose and clothes, drawn at random.

A :class:`Figure` only says what a person is like; ``people.py`` draws it. Lengths are
meters, angles radians.
"""

from dataclasses import dataclass

from experiments.scenes.dice import Dice, sine
from experiments.scenes.raster import Color, mix

__all__ = ["Cloth", "Figure", "draw_figure"]

SKINS: tuple[Color, ...] = (
    (0.84, 0.68, 0.58),
    (0.81, 0.63, 0.51),
    (0.76, 0.56, 0.43),
    (0.70, 0.50, 0.37),
    (0.55, 0.37, 0.26),
    (0.40, 0.26, 0.18),
    (0.29, 0.19, 0.14),
)
HAIRS: tuple[Color, ...] = (
    (0.06, 0.05, 0.05),
    (0.10, 0.08, 0.07),
    (0.16, 0.10, 0.07),
    (0.30, 0.19, 0.11),
    (0.45, 0.30, 0.16),
    (0.66, 0.53, 0.33),
    (0.50, 0.24, 0.13),
    (0.50, 0.49, 0.48),
)
MUTED: tuple[Color, ...] = (
    (0.09, 0.09, 0.10),
    (0.15, 0.16, 0.20),
    (0.28, 0.28, 0.30),
    (0.46, 0.46, 0.47),
    (0.86, 0.86, 0.85),
    (0.93, 0.93, 0.94),
    (0.12, 0.17, 0.32),
    (0.22, 0.32, 0.50),
    (0.55, 0.68, 0.82),
    (0.36, 0.29, 0.22),
    (0.62, 0.54, 0.42),
    (0.82, 0.77, 0.66),
    (0.27, 0.32, 0.22),
)
BRIGHT: tuple[Color, ...] = (
    (0.68, 0.10, 0.12),
    (0.85, 0.25, 0.20),
    (0.86, 0.45, 0.58),
    (0.92, 0.72, 0.76),
    (0.90, 0.74, 0.20),
    (0.88, 0.47, 0.14),
    (0.15, 0.48, 0.28),
    (0.35, 0.62, 0.60),
    (0.15, 0.33, 0.70),
    (0.45, 0.25, 0.52),
    (0.60, 0.75, 0.35),
)
DENIM: tuple[Color, ...] = (
    (0.18, 0.24, 0.36),
    (0.28, 0.36, 0.50),
    (0.42, 0.52, 0.66),
    (0.13, 0.16, 0.24),
)
TROUSERS: tuple[Color, ...] = (
    (0.08, 0.08, 0.09),
    (0.12, 0.12, 0.15),
    (0.20, 0.20, 0.22),
    (0.34, 0.33, 0.33),
    (0.58, 0.52, 0.42),
    (0.72, 0.67, 0.57),
    (0.30, 0.24, 0.18),
    (0.84, 0.83, 0.80),
    (0.26, 0.29, 0.24),
)


@dataclass(frozen=True)
class Cloth:
    """What a garment is made of.

    Attributes:
        color: its color.
        second: the color of the pattern.
        pattern: "plain", "stripes", "bars", "plaid", "print" or "block".
        period: width of the pattern in meters.
    """

    color: Color
    second: Color
    pattern: str = "plain"
    period: float = 0.08


@dataclass(frozen=True)
class Figure:
    """One person.

    Attributes:
        height: meters.
        build: factor of widths, 1 for average.
        curve: 0 for straight, 1 for a narrow waist and wide hips.
        head: height of the head as a share of the height (children: larger).
        turn: where the body faces; 0 to the camera, a quarter turn to the right.
        look: where the head faces.
        phase: moment of the step.
        stride: swing of the thigh; 0 stands.
        arms: (swing, bend) of the left and the right arm.
        lean: forward lean.
        skin: color.
        hair: color.
        style: "bald", "short", "medium", "long", "bun" or "tail".
        hat: "none", "cap", "brim" or "knit".
        top: cloth of the upper body.
        under: cloth under an open jacket.
        kind: "shirt", "tee", "tank", "jacket", "open" or "coat".
        hem: height of the top's lower edge as a share of the height.
        legs: cloth of the legs.
        lower: "trousers", "shorts", "skirt", "dress" or "capri".
        flare: factor of the trousers' width at the ankle.
        skirt: height of the skirt's hem as a share of the height.
        shoes: color.
        bag: "none", "backpack", "shoulder", "hand" or "carrier".
        bag_color: its color.
        bag_side: 0 for left, 1 for right.
    """

    height: float
    build: float
    curve: float
    head: float
    turn: float
    look: float
    phase: float
    stride: float
    arms: tuple[tuple[float, float], tuple[float, float]]
    lean: float
    skin: Color
    hair: Color
    style: str
    hat: str
    top: Cloth
    under: Cloth
    kind: str
    hem: float
    legs: Cloth
    lower: str
    flare: float
    skirt: float
    shoes: Color
    bag: str
    bag_color: Color
    bag_side: int


def _cloth(dice: Dice, colors: tuple[Color, ...], plain: float) -> Cloth:
    color = dice.shade(dice.choice(colors), 0.05)
    pattern = "plain"
    if not dice.chance(plain):
        pattern = dice.weighted(
            {"stripes": 3, "bars": 1.5, "plaid": 2, "print": 2.5, "block": 1.5}
        )
    second = dice.choice((MUTED, BRIGHT))
    return Cloth(
        color, dice.shade(dice.choice(second), 0.05), pattern, dice.uniform(0.035, 0.11)
    )


def _pose(dice: Dice) -> dict:
    quarter = 1.5707963
    side = dice.sign() * (quarter + dice.bell(0, 0.25))
    turn = dice.weighted(
        {
            side: 6.5,
            dice.bell(0, 0.35): 2.2,
            2 * quarter + dice.bell(0, 0.35): 1.5,
            dice.sign() * (quarter / 2 + dice.bell(0, 0.2)): 1.2,
            dice.sign() * (3 * quarter / 2 + dice.bell(0, 0.2)): 0.8,
        }
    )
    walks = dice.chance(0.86)
    stride = dice.uniform(0.24, 0.47) if walks else dice.uniform(0.0, 0.07)
    phase = dice.uniform(0, 4 * quarter)
    swing = sine(phase) * (0.9 * stride + 0.05) if walks else dice.bell(0, 0.08)
    bend = [dice.uniform(0.08, 0.45), dice.uniform(0.08, 0.45)]
    lift = [-swing, swing]
    for k in (0, 1):
        special = dice.weighted(
            {"none": 0.72, "carry": 0.15, "phone": 0.06, "hip": 0.07}
        )
        if special == "carry":
            lift[k], bend[k] = dice.uniform(-0.1, 0.3), dice.uniform(1.1, 1.7)
        elif special == "phone":
            lift[k], bend[k] = dice.uniform(0.3, 0.6), dice.uniform(2.1, 2.5)
        elif special == "hip":
            lift[k], bend[k] = dice.uniform(-0.6, -0.3), dice.uniform(0.8, 1.3)
    return {
        "turn": turn,
        "look": turn + dice.bell(0, 0.3),
        "phase": phase,
        "stride": stride,
        "arms": ((lift[0], bend[0]), (lift[1], bend[1])),
        "lean": dice.uniform(-0.02, 0.09) if walks else dice.bell(0.0, 0.03),
    }


def draw_figure(dice: Dice, cold: float = 0.3) -> Figure:
    """Draw a person at random.

    Args:
        dice: stream of random numbers.
        cold: 0 for summer clothes, 1 for winter clothes.

    Returns:
        The person.
    """
    child = dice.chance(0.07)
    female = dice.chance(0.5)
    height = dice.bell(1.64 if female else 1.75, 0.07)
    if child:
        height = dice.uniform(1.0, 1.45)
    old = not child and dice.chance(0.1)
    warm = 1 - cold
    kind = dice.weighted(
        {
            "shirt": 2.5,
            "tee": 4.5 * warm,
            "tank": 0.9 * warm if female else 0.15 * warm,
            "jacket": 0.7 + 3 * cold,
            "open": 0.8 + 1.5 * cold,
            "coat": 3 * cold,
        }
    )
    lower = dice.weighted(
        {
            "trousers": 7.0,
            "shorts": 1.5 * warm,
            "capri": 0.6 * warm if female else 0.1,
            "skirt": (0.9 if female else 0.0),
            "dress": (0.6 if female else 0.0) * (1.0 if kind in ("tee", "tank") else 0),
        }
    )
    top = _cloth(dice, MUTED if dice.chance(0.62) else BRIGHT, 0.62)
    if kind in ("jacket", "open", "coat"):
        top = Cloth(
            dice.shade(dice.choice(MUTED if dice.chance(0.8) else BRIGHT)), top.second
        )
    denim = dice.chance(0.45) and lower in ("trousers", "shorts", "capri")
    legs = Cloth(dice.shade(dice.choice(DENIM if denim else TROUSERS)), top.second)
    if lower == "skirt":
        legs = _cloth(dice, MUTED if dice.chance(0.7) else BRIGHT, 0.7)
    elif lower == "dress":
        legs = top
    elif dice.chance(0.03):
        legs = Cloth(legs.color, dice.choice(MUTED), "plaid", 0.06)
    hem = {"coat": dice.uniform(0.27, 0.42), "jacket": 0.47, "open": 0.46}.get(
        kind, dice.uniform(0.465, 0.535)
    )
    if female:
        style = dice.weighted(
            {"long": 3.5, "medium": 2.5, "tail": 2, "bun": 1, "short": 1}
        )
    else:
        style = dice.weighted({"short": 7, "bald": 0.9, "medium": 0.8, "tail": 0.2})
    hair = (
        HAIRS[7]
        if old
        else dice.weighted(
            {
                HAIRS[0]: 5,
                HAIRS[1]: 4,
                HAIRS[2]: 3,
                HAIRS[3]: 2,
                HAIRS[4]: 1.4,
                HAIRS[5]: 1,
                HAIRS[6]: 0.5,
            }
        )
    )
    skin = dice.weighted(dict(zip(SKINS, (3, 4, 4, 2.5, 2, 1.6, 1.2), strict=True)))
    if skin in SKINS[4:] and hair in HAIRS[3:7]:
        hair = HAIRS[0] if skin in SKINS[5:] else HAIRS[1]
    elif skin == SKINS[3] and hair in HAIRS[4:7]:
        hair = HAIRS[3]
    dark = dice.chance(0.7)
    return Figure(
        height=height,
        build=max(0.8, dice.bell(1.12 if old else 1.03, 0.12)),
        curve=(
            dice.uniform(0.45, 1.0) if female and not child else dice.uniform(0, 0.25)
        ),
        head=0.133 + max(0.0, 1.55 - height) * 0.085,
        skin=dice.shade(skin, 0.03),
        hair=dice.shade(hair, 0.025),
        style=style,
        hat=dice.weighted({"none": 8.3, "cap": 0.9, "brim": 0.35, "knit": 0.9 * cold}),
        top=top,
        under=_cloth(dice, MUTED, 0.7),
        kind=kind,
        hem=hem,
        legs=legs,
        lower=lower,
        flare=dice.uniform(0.85, 1.75),
        skirt=dice.uniform(0.20, 0.38) if dice.chance(0.8) else dice.uniform(0.08, 0.2),
        shoes=dice.shade(
            (0.1, 0.09, 0.08)
            if dark
            else dice.choice(
                ((0.85, 0.85, 0.84), (0.5, 0.35, 0.22), (0.6, 0.15, 0.15))
            ),
            0.04,
        ),
        bag=dice.weighted(
            {"none": 4.6, "backpack": 1.7, "shoulder": 1.8, "hand": 0.9, "carrier": 0.9}
        ),
        bag_color=mix(
            dice.choice(MUTED), dice.choice(BRIGHT), 0.35 * dice.integer(0, 2)
        ),
        bag_side=dice.integer(0, 1),
        **_pose(dice),
    )
