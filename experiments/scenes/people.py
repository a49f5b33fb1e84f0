"""Drawing a person: limbs as shaded volumes, cloth with folds, head, hair and bags."""

from math import sqrt

import numpy as np

from experiments.scenes.bags import draw_bag
from experiments.scenes.body import Body
from experiments.scenes.heads import draw_head
from experiments.scenes.pose import Joint
from experiments.scenes.raster import Canvas, Point, blur, coverage, limb, mix, spot

__all__ = ["Person"]


class Person(Body):
    """A person who can be drawn; see :class:`~experiments.scenes.body.Body`."""

    def shadow(self, canvas: Canvas) -> None:
        """Darken the ground where the person keeps the sun or the sky away."""
        joints, light, h = self.joints, self.light, self.figure.height
        shade = np.zeros((canvas.height, canvas.width), np.float32)

        def fall(joint: Joint) -> Point:
            x, y, z = self.world(joint)
            return self.camera.project(
                x - light.x / light.y * y, 0.0, max(0.3, z + light.z / light.y * y)
            )

        flat = min(0.8, self.camera.eye / self.z)  # how a circle on the ground looks
        if light.sun > 0.15:
            bones = [("neck", "pelvis", 0.095), ("head", "head", 0.065)]
            bones += [("head", "neck", 0.045), ("shoulder0", "shoulder1", 0.05)]
            loose = 0.075 if self.figure.lower in ("skirt", "dress") else 0.06
            for k in (0, 1):
                bones += [(f"hip{k}", f"knee{k}", loose), (f"knee{k}", f"toe{k}", 0.05)]
                bones += [(f"ankle{k}", f"heel{k}", 0.045)]
                bones += [
                    (f"shoulder{k}", f"elbow{k}", 0.04),
                    (f"elbow{k}", f"hand{k}", 0.03),
                ]
            for a, b, r in bones:
                p, q = fall(joints[a]), fall(joints[b])
                q = (q[0] + 0.01, q[1])
                r = r * h * self.scale
                outline = limb(p, q, r, r, 4, flat)
                patch = coverage(outline, canvas.height, canvas.width)
                if patch is not None:
                    part = shade[patch.window]
                    np.maximum(part, patch.alpha, out=part)
            shade = blur(shade, 1 if self.unit < 120 else 2)
            shade *= np.float32(0.75 * light.sun / (light.sun + light.sky))
        for k in (0, 1):
            right, _, forward = joints[f"ankle{k}"]
            x, y = self.point((right, 0.0, forward + 0.03))
            spot(shade, x, y, 0.15 * self.unit, 0.045 * self.unit, 0.6)
        canvas.image *= (1 - shade)[..., None]

    def leg(self, k: int) -> None:
        """One leg with its shoe."""
        f, u = self.figure, self.unit
        b = 0.6 + 0.4 * f.build
        joint = {n: self.point(p) for n, p in self.joints.items()}
        heel, toe, ankle = joint[f"heel{k}"], joint[f"toe{k}"], joint[f"ankle{k}"]
        if f.lower != "trousers":
            self.bone(f"hip{k}", f"knee{k}", 0.054 * b, 0.036 * b, f.skin, folds=0.0)
            calf = self.between(f"knee{k}", f"ankle{k}", 0.35)
            point = self.point(calf)
            knee = self.point(self.joints[f"knee{k}"])
            self.rod(knee, point, 0.034 * b * u, 0.035 * b * u, f.skin, 0.0)
            self.rod(point, ankle, 0.035 * b * u, 0.02 * u, f.skin, 0.0)
        self.rod(ankle, heel, 0.021 * u, 0.018 * u, f.shoes, 0.0)
        self.rod(heel, toe, 0.021 * u, 0.016 * u, f.shoes, 0.0)
        if f.lower in ("trousers", "capri", "shorts"):
            end, low = {
                "trousers": (1.02, 0.03 * f.flare),
                "capri": (0.7, 0.038),
                "shorts": (0.0, 0.0),
            }[f.lower]
            if f.lower == "shorts":
                point = self.point(self.between(f"hip{k}", f"knee{k}", 0.97))
                hip = self.point(self.joints[f"hip{k}"])
                self.rod(hip, point, 0.062 * b * u, 0.056 * b * u, f.legs, cut=True)
                return
            knee_width = (
                0.5 * (0.044 * b + min(low, 0.055)) if f.flare > 1.3 else 0.041 * b
            )
            self.bone(f"hip{k}", f"knee{k}", 0.060 * b, knee_width, f.legs)
            point = self.point(self.between(f"knee{k}", f"ankle{k}", end))
            knee = self.point(self.joints[f"knee{k}"])
            self.rod(knee, point, knee_width * u, low * u, f.legs, cut=True)

    def hidden(self, k: int) -> bool:
        """Whether an arm on the far side is so much behind the body that only a stump
        of it or a hand would be seen."""
        f = self.figure
        b, (s, c) = f.build, self.facing
        wide, deep = 0.095 * (0.5 + 0.5 * b), 0.074 * (0.4 + 0.6 * b)
        half = sqrt(wide * c * wide * c + deep * s * deep * s) * self.unit
        middle = self.point((0.0, self.joints["pelvis"][1] + 0.08 * f.height, 0.0))[0]
        seen = 0
        for share in (0.3, 0.5, 0.7, 0.9, 1.1):
            x = self.point(self.between(f"elbow{k}", f"hand{k}", share))[0]
            seen += abs(x - middle) > half
        return seen < 4

    def arm(self, k: int, near: bool = True) -> None:
        """One arm with its hand.

        Args:
            k: 0 for the left arm, 1 for the right.
            near: whether it is in front of the body and keeps light from it.
        """
        f, u = self.figure, self.unit
        b = 0.55 + 0.45 * f.build
        sleeve = {"tee": 0.72, "tank": 0.0}.get(f.kind, 1.0)
        thick = 1.12 if f.kind in ("coat", "jacket", "open") else 1.0
        shoulder = self.point(self.joints[f"shoulder{k}"])
        hand = self.point(self.joints[f"hand{k}"])
        elbow = self.point(self.joints[f"elbow{k}"])
        reach = self.point(self.between(f"elbow{k}", f"hand{k}", 1.25))
        if near:
            wide = 1.18 * thick * u
            upper = self.point(self.between(f"shoulder{k}", f"elbow{k}", 0.5))
            self.occlude(limb(upper, elbow, 0.020 * wide, 0.037 * wide))
            self.occlude(limb(elbow, reach, 0.037 * wide, 0.026 * wide))
        self.rod(hand, reach, 0.020 * u, 0.015 * u, f.skin, 0.0)
        if sleeve < 1:
            self.bone(
                f"shoulder{k}", f"elbow{k}", 0.034 * b, 0.028 * b, f.skin, folds=0.0
            )
            self.rod(elbow, hand, 0.028 * b * u, 0.019 * u, f.skin, 0.0)
            if sleeve > 0:
                end = self.point(self.between(f"shoulder{k}", f"elbow{k}", sleeve))
                self.rod(shoulder, end, 0.034 * b * u, 0.036 * b * u, f.top, cut=True)
        else:
            self.bone(
                f"shoulder{k}", f"elbow{k}", 0.036 * b * thick, 0.032 * b * thick, f.top
            )
            self.rod(elbow, hand, 0.032 * b * thick * u, 0.024 * thick * u, f.top)

    def torso(self) -> None:
        """Hips, chest and shoulders, and a coat's skirt."""
        f = self.figure
        b, c = f.build, f.curve
        deep = 0.4 + 0.6 * b
        hips = 0.086 * (0.5 + 0.5 * b) + 0.008 * c
        waist = (0.082 - 0.010 * c) * (0.3 + 0.7 * b)
        belly = 0.058 * (1.8 * b - 0.8) if b > 1 else 0.058 * b
        if f.lower != "dress":
            self.lathe(
                [
                    (0.57, waist, belly),
                    (0.52, hips, 0.068 * deep),
                    (0.475, hips * 0.95, 0.066 * deep),
                    (0.45, hips * 0.6, 0.045),
                ],
                f.legs,
            )
        shoulder = 0.118 * (0.55 + 0.45 * b) * (1.04 - 0.10 * c)
        loose = {"coat": 1.16, "jacket": 1.12, "open": 1.10, "tank": 0.97}.get(
            f.kind, 1.03
        )
        strap = 0.5 if f.kind == "tank" else 0.75
        levels = [
            (0.846, 0.042, 0.036),
            (0.832, shoulder * strap, 0.046),
            (0.805, shoulder * (0.9 if f.kind == "tank" else 1.03), 0.058 * loose),
            (0.72, shoulder * 0.89 * loose, (0.066 + 0.012 * c) * deep * loose),
            (0.62, max(waist, 0.07) * loose, belly * loose),
        ]
        if f.hem < 0.6:
            levels.append((0.54, hips * 0.97 * loose, 0.068 * deep * loose))
        levels.append((min(f.hem, 0.53), hips * 1.03 * loose, 0.07 * deep * loose))
        if f.kind == "coat":
            levels[-1] = (0.47, hips * 1.08 * loose, 0.076 * loose)
            levels.append((f.hem, hips * 1.15 * loose, 0.085 * loose))
        self.lathe(levels, f.top)
        front = self.facing[1]
        if f.kind == "open" and front > 0.15:
            narrow = [(up, w * 0.38 * front, d * 0.2) for up, w, d in levels]
            self.lathe(narrow, f.under, center=0.05)
        elif f.kind in ("jacket", "coat", "shirt") and front > 0.3 and self.unit > 60:
            x0, y0 = self.point((0, self.joints["neck"][1], 0.05))
            x1, y1 = self.point((0, self.joints["pelvis"][1], 0.05))
            line = limb((x0, y0), (x1, y1), 0.004 * self.unit, 0.004 * self.unit, 2)
            self.canvas.fill(line, mix(f.top.color, (0, 0, 0), 0.45), self.light.sky)

    def skirt(self) -> None:
        """A skirt, or the lower half of a dress, wide enough for both legs."""
        f = self.figure
        hips = 0.088 * (0.5 + 0.5 * f.build) + 0.008 * f.curve
        hem = f.skirt
        knees = [self.point(self.joints[f"knee{k}"])[0] for k in (0, 1)]
        x = self.point(self.joints["pelvis"])[0]
        left, right = max(0.0, x - min(knees)), max(0.0, max(knees) - x)
        reach = (0.52 - hem) / 0.24
        top = 0.62 if f.lower == "dress" else 0.58
        self.lathe(
            [
                (top, hips * 0.86, 0.06),
                (0.52, hips, 0.068),
                ((0.5 + hem) / 2, hips * 1.05, 0.075),
                (hem, hips * 1.08, 0.08),
            ],
            f.legs,
            spread=[
                (0.0, 0.0),
                (0.0, 0.0),
                (left * reach * 0.3, right * reach * 0.3),
                (left * min(1.2, reach) * 0.75, right * min(1.2, reach) * 0.75),
            ],
        )

    def draw(self, canvas: Canvas, number: int = 0) -> np.ndarray:
        """Draw the person.

        Args:
            canvas: picture to draw on.
            number: the person's number in the mask.

        Returns:
            The pixels the person covers, boolean, before nearer objects hide some.
        """
        self.canvas = canvas
        self.crease = self._crease()
        canvas.begin(self.light.air(self.z))
        far = 0 if self.depth("shoulder0") > self.depth("shoulder1") else 1
        behind = [k for k in (0, 1) if self.depth(f"shoulder{k}") > 0.06]
        draw_bag(self, behind=True)
        for k in behind:
            self.dim = 0.78
            if not self.hidden(k):
                self.arm(k, near=False)
        away = [self.depth(f"ankle{k}") + 0.3 * self.depth(f"hip{k}") for k in (0, 1)]
        first = 0 if away[0] > away[1] else 1
        self.dim = 0.80
        self.leg(first)
        self.dim = 1.0
        self.leg(1 - first)
        if self.figure.lower in ("skirt", "dress"):
            self.skirt()
        draw_head(self, behind=True)
        self.torso()
        draw_bag(self, behind=False)
        draw_head(self, behind=False)
        for k in (far, 1 - far):
            if k not in behind:
                self.arm(k)
        draw_bag(self, behind=False, last=True)
        return canvas.end(number)
