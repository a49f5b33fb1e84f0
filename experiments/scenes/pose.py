"""How a person holds body and limbs: the joints of a figure.

Body coordinates are right, up and forward as the person sees it, in meters.
"""

from dataclasses import replace

from experiments.scenes.dice import cosine, sine
from experiments.scenes.figure import Figure

__all__ = ["Joint", "settled", "skeleton"]

Joint = tuple[float, float, float]


def settled(figure: Figure) -> Figure:
    """The same person in a pose that can be told from where the camera is.

    Seen from the front or the back steps are shorter and the arms hang at the sides.
    Seen from the side only the near arm does anything but swing, and it carries what
    is carried in a hand: the far arm would end in a stump behind the body.

    Args:
        figure: the person.

    Returns:
        The person with stride, arms and side of the bag changed where needed.
    """
    side, front = sine(figure.turn), cosine(figure.turn)
    near = 1 if side > 0 else 0
    stride = min(figure.stride, 0.17 + 0.24 * side * side)
    bag_side = figure.bag_side
    if abs(side) > 0.4 and figure.bag in ("hand", "carrier"):
        bag_side = near
    arms = []
    for k, (swing, bend) in enumerate(figure.arms):
        busy = bend > 0.6
        carries = figure.bag in ("hand", "carrier") and k == bag_side
        if busy and (abs(front) > 0.75 or front < -0.3 or k != near or carries):
            other, bent = figure.arms[1 - k]
            swing, bend = (-other, bent) if bent <= 0.6 else (0.05, 0.25)
        if abs(front) > 0.75:
            swing, bend = 0.45 * swing, 0.10 + 0.5 * bend
        arms.append((swing, bend))
    return replace(figure, stride=stride, bag_side=bag_side, arms=(arms[0], arms[1]))


def skeleton(figure: Figure) -> dict[str, Joint]:
    """Where the joints are, in body coordinates, with one foot on the ground.

    Args:
        figure: the person.

    Returns:
        (right, up, forward) in meters for "hip0", "knee0", "ankle0", "toe0", "heel0",
        "shoulder0", "elbow0", "hand0" of the left side, the same with 1 of the right,
        "pelvis", "neck" and "head". A shared shift puts the lower foot on the ground.
    """
    h = figure.height
    joints: dict[str, Joint] = {"pelvis": (0.0, 0.52 * h, 0.0)}
    for k, side in enumerate((-1, 1)):
        moment = figure.phase + 3.14159265 * k
        thigh = figure.stride * sine(moment) + 0.04
        bend = 0.07 + figure.stride * (0.15 + 1.55 * max(0.0, cosine(moment)))
        shin = thigh - bend
        hip = (side * (0.048 + 0.012 * figure.curve) * h, 0.52 * h, 0.0)
        knee = (
            hip[0] - side * 0.006 * h,
            hip[1] - 0.245 * h * cosine(thigh),
            0.245 * h * sine(thigh),
        )
        ankle = (
            knee[0] - side * 0.004 * h,
            knee[1] - 0.24 * h * cosine(shin),
            knee[2] + 0.24 * h * sine(shin),
        )
        pitch = 0.75 * min(0.0, shin + 0.05) + 0.55 * max(0.0, shin)
        c, s = cosine(pitch), sine(pitch)
        out = side * 0.018 * h
        joints[f"hip{k}"], joints[f"knee{k}"], joints[f"ankle{k}"] = hip, knee, ankle
        low = ankle[1] - 0.018 * h
        joints[f"toe{k}"] = (
            ankle[0] + out,
            low + 0.075 * h * s - 0.006 * h * c,
            ankle[2] + 0.075 * h * c,
        )
        joints[f"heel{k}"] = (ankle[0], low - 0.028 * h * s, ankle[2] - 0.028 * h * c)
    lowest = min(joints[f"{p}{k}"][1] for p in ("toe", "heel") for k in (0, 1))
    shift = 0.017 * h - lowest
    joints = {n: (r, u + shift, f) for n, (r, u, f) in joints.items()}
    pelvis = joints["pelvis"][1]
    tilt = figure.lean
    wide = 0.090 * h * (0.55 + 0.45 * figure.build) * (1.04 - 0.10 * figure.curve)
    for k, side in enumerate((-1, 1)):
        swing, bend = figure.arms[k]
        up = 0.272 * h
        shoulder = (side * wide, pelvis + up, up * tilt)
        outward = 0.13 + 0.1 * max(0.0, figure.build - 1)
        a, b = 0.165 * h, 0.14 * h
        elbow = (
            shoulder[0] + side * a * outward,
            shoulder[1] - a * cosine(swing),
            shoulder[2] + a * sine(swing),
        )
        inward = 0.05 - 0.32 * min(1.0, max(0.0, bend - 0.6))
        hand = (
            elbow[0] + side * b * inward,
            elbow[1] - b * cosine(swing + bend),
            elbow[2] + b * sine(swing + bend),
        )
        joints[f"shoulder{k}"], joints[f"elbow{k}"] = shoulder, elbow
        joints[f"hand{k}"] = hand
    joints["neck"] = (0.0, pelvis + 0.315 * h, 0.315 * h * tilt)
    joints["head"] = (
        0.0,
        pelvis + 0.342 * h + figure.head * h * 0.53,
        (0.34 * tilt + 0.012) * h,
    )
    return joints
