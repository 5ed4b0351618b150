"""A room of boxes and balls that a camera moves through, ray by ray: intensity, depth, flow and pose, exact.

Lengths are in metres, times in microseconds at the doors. Cameras look along +z with x to the right and y
downwards; depth is z in the camera's frame, not the length of the ray.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perception.pinhole import Pinhole
from sims.camera import log_intensity
from tracking.compiled import compiled

BALL, BOX = 0, 1
NOTHING = -1  # object of a ray that hits a wall of the room
WAVES = 6  # of a texture
NEAREST = 1e-6  # m along a ray
TRAVEL = (4.0, 8.0)  # s, to walk to and fro once


class Pose(NamedTuple):
    """Where a camera is and how it is turned: camera to world, a rotation (3, 3) and a place (3,), m."""

    rotation: np.ndarray
    place: np.ndarray

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) in the world, of points in the camera's frame."""
        return points @ self.rotation.T + self.place

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) in the camera's frame, of points in the world."""
        return (points - self.place) @ self.rotation


@dataclass(frozen=True)
class Path:
    """A smooth way through a room: every coordinate a sum of sines.

    Args:
        middle:    (6,) x, y, z in m and turns about x, y, z in rad.
        amplitude: (k, 6) of the sines, m and rad.
        frequency: (k, 6) Hz.
        phase:     (k, 6) rad.
    """

    middle: np.ndarray
    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    @classmethod
    def random(cls, seed: int, speed: float = 1.0, waves: int = 3, travel: float = 0.0) -> "Path":
        """A hand-held camera that stays near the origin; `speed` scales how fast.

        With `travel` whoever holds it walks to and fro, up to so many metres to each side and half as many
        ahead and back, in TRAVEL seconds.
        """
        rng = np.random.default_rng(seed)
        reach = np.array([0.25, 0.15, 0.25, 0.12, 0.2, 0.1]) / waves
        amplitude = reach * rng.uniform(0.3, 1.0, (waves, 6))
        frequency = speed * rng.uniform(0.3, 1.0, (waves, 6)) * np.arange(1, waves + 1)[:, None]
        phase = rng.uniform(0, 2 * np.pi, (waves, 6))
        if travel:
            amplitude = np.vstack((amplitude, travel * np.array([1, 0, 0.5, 0, 0, 0])))
            frequency = np.vstack((frequency, np.full(6, 1 / rng.uniform(*TRAVEL))))
            phase = np.vstack((phase, rng.uniform(0, 2 * np.pi, 6)))
        return cls(np.zeros(6), amplitude, frequency, phase)

    def pose(self, time: float) -> Pose:
        """Pose at a time in microseconds."""
        angle = 2 * np.pi * self.frequency * (time * 1e-6) + self.phase
        at = self.middle + (self.amplitude * np.sin(angle)).sum(0)
        return Pose(_turned(*at[3:]), at[:3])


class View(NamedTuple):
    """What a camera sees.

    image:  (H, W) intensity, 0 to 1.
    depth:  (H, W) m, of the middle of the pixel.
    object: (H, W) which object; -1: the room.
    pose:   of the camera.
    """

    image: np.ndarray
    depth: np.ndarray
    object: np.ndarray
    pose: Pose


@dataclass(frozen=True)
class World:
    """A closed room with balls and boxes, all with solid textures, some of them moving.

    Args:
        room:     (2, 3) lower and upper corner, m.
        kind:     (n,) BALL or BOX.
        place:    (n, 3) centres at time 0, m.
        size:     (n, 3) half lengths of boxes along the axes of the world; of balls, three times the radius.
        velocity: (n, 3) m/s.
        texture:  (n + 1, WAVES, 5) of the objects, then of the room: waves of (kx, ky, kz) per m, phase and
                  amplitude; phases in turns.
        tone:     (n + 1, 2) mean and contrast of the logarithm of reflectance.
        light:    (3,) direction to the light, of length 1.
    """

    room: np.ndarray
    kind: np.ndarray
    place: np.ndarray
    size: np.ndarray
    velocity: np.ndarray
    texture: np.ndarray
    tone: np.ndarray
    light: np.ndarray

    @classmethod
    def random(cls, seed: int, objects: int = 8, moving: int = 0, speed: float = 0.5) -> "World":
        """A room of about 8 x 4 x 8 m, objects in front of the origin, of which the first `moving` move."""
        if not 0 <= moving <= objects:
            raise ValueError(f"moving must lie between 0 and objects, got {moving} of {objects}")
        rng = np.random.default_rng(seed)
        room = np.array([[-4.0, -2.0, -2.0], [4.0, 2.0, 6.0]]) * rng.uniform(0.8, 1.2, (2, 3))
        kind = rng.integers(0, 2, objects)
        place = rng.uniform((-2.0, -1.2, 1.6), (2.0, 1.2, 5.0), (objects, 3))
        size = rng.uniform(0.15, 0.55, (objects, 3))
        size[kind == BALL] = size[kind == BALL][:, :1]
        velocity = np.zeros((objects, 3))
        heading = rng.uniform(0, 2 * np.pi, moving)
        velocity[:moving] = speed * np.stack((np.cos(heading), np.zeros(moving), np.sin(heading)), -1)
        direction = rng.normal(size=(objects + 1, WAVES, 3))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        length = 0.15 * 10 ** rng.uniform(0, 1.1, (objects + 1, WAVES, 1))  # m, of a wave
        phase = rng.uniform(0, 1, (objects + 1, WAVES, 1))
        amplitude = rng.uniform(0.3, 1.0, (objects + 1, WAVES, 1)) * np.sqrt(length)
        texture = np.concatenate((direction / length, phase, amplitude), -1)
        tone = np.stack((rng.uniform(-1.8, -0.6, objects + 1), rng.uniform(0.7, 2.0, objects + 1)), -1)
        light = rng.normal(size=3) * (1, 0.5, 1) + (0, -1, -1)
        return cls(room, kind, place, size, velocity, texture, tone, light / np.linalg.norm(light))

    def at(self, time: float) -> np.ndarray:
        """(n, 3) centres of the objects at a time in microseconds, m."""
        return self.place + self.velocity * (time * 1e-6)

    def view(
        self, lens: Pinhole, pose: Pose, time: float = 0.0, samples: int = 2, light: float = 1.0
    ) -> View:
        """What a camera sees at a time in microseconds; a camera inside an object does not see it.

        Args:
            lens, pose: of the camera.
            time:       where moving objects are.
            samples:    of intensity along each side of a pixel; depth is that of its middle.
            light:      brightness; 1 is day, 0.05 night.
        """
        if samples < 1 or not light > 0:
            raise ValueError(f"samples must be at least 1 and light > 0, got {samples} and {light}")
        inside = (self.room[0] < pose.place) & (pose.place < self.room[1])
        if not inside.all():
            raise ValueError(
                f"the camera must be inside the room {self.room.tolist()}, got {pose.place.tolist()}"
            )
        image, depth = np.empty((lens.height, lens.width)), np.empty((lens.height, lens.width))
        seen = np.empty((lens.height, lens.width), np.int64)
        camera = (lens.fx, lens.fy, lens.cx, lens.cy, samples)
        objects = (self.room, self.kind, self.at(time), self.size)
        paint = (self.texture, self.tone, self.light)
        _cast(camera, pose.rotation, pose.place, objects, paint, image, depth, seen)
        return View(np.clip(image * light, 0, 1), depth, seen, pose)

    def flow(self, lens: Pinhole, view: View, time: float, after: Pose, later: float) -> np.ndarray:
        """(2, H, W) pixels, x before y, that what a pixel sees at `time` has moved by at `later`.

        Exact, also for moving objects; where the point is hidden later, it is where it would be seen. What is
        not in front of the camera later has none: NaN.

        Args:
            lens:  of the camera.
            view:  at `time`, microseconds.
            time:  of the view.
            after: pose at `later`.
            later: microseconds.
        """
        points = view.pose.to_world(lens.unproject(view.depth))
        moved = np.concatenate((self.velocity, np.zeros((1, 3))))[view.object] * ((later - time) * 1e-6)
        later_points = after.to_camera(points + moved)
        later_points[later_points[..., 2] <= 0] = np.nan
        u, v = np.moveaxis(lens.project(later_points), -1, 0)
        y, x = np.mgrid[: lens.height, : lens.width]
        return np.stack((u - x, v - y))


def scene(
    world: World, lens: Pinhole, path: Path, samples: int = 2, light: float = 1.0, offset: float = 0.02
):
    """Log intensity (H, W) as a function of microseconds, for `sims.camera.record`."""

    def look(time: float) -> np.ndarray:
        return log_intensity(world.view(lens, path.pose(time), time, samples, light).image, offset)

    return look


def _turned(x, y, z):
    """(3, 3) rotation about z, then y, then x."""
    (a, b), (c, d), (e, f) = ((np.cos(v), np.sin(v)) for v in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, a, -b], [0, b, a]])
    about_y = np.array([[c, 0, d], [0, 1, 0], [-d, 0, c]])
    return about_x @ about_y @ np.array([[e, -f, 0], [f, e, 0], [0, 0, 1]])


@compiled
def _cast(camera, rotation, place, objects, paint, image, depth, seen):
    """Rays (x / f, y / f, 1) are not of length 1: so their parameter at a hit is the depth."""
    fx, fy, cx, cy, samples = camera
    ray, hit, normal = np.empty((2, 3)), np.empty(3), np.empty(3)
    image[:] = 0.0
    for row in range(image.shape[0]):
        v = (row - cy) / fy
        near = _near_row(rotation, place, v, objects)
        for column in range(image.shape[1]):
            _aim(rotation, (column - cx) / fx, v, ray)
            depth[row, column], seen[row, column] = _hit(place, ray, objects, near, normal)
        for b in range(samples):
            v = (row - cy + (b + 0.5) / samples - 0.5) / fy
            near = _near_row(rotation, place, v, objects)
            for column in range(image.shape[1]):
                for a in range(samples):
                    _aim(rotation, (column - cx + (a + 0.5) / samples - 0.5) / fx, v, ray)
                    far, which = _hit(place, ray, objects, near, normal)
                    for k in range(3):
                        hit[k] = place[k] + far * ray[0, k]
                    image[row, column] += _shade(hit, normal, which, far / fx, objects, paint)
    image /= samples**2


@compiled
def _aim(rotation, u, v, ray):
    """Direction of a ray, and one over it."""
    for k in range(3):
        ray[0, k] = rotation[k, 0] * u + rotation[k, 1] * v + rotation[k, 2]
        ray[1, k] = 1 / ray[0, k] if ray[0, k] != 0 else np.inf


@compiled
def _near_row(rotation, place, v, objects):
    """Objects that the plane of a row's rays can meet: those whose bounding ball it cuts."""
    centre, size = objects[2], objects[3]
    near = np.empty(len(centre), np.int64)
    found = 0
    for i in range(len(centre)):
        apart, radius = 0.0, 0.0
        for k in range(3):
            apart += (rotation[k, 1] - v * rotation[k, 2]) * (centre[i, k] - place[k])
            radius += size[i, k] ** 2
        if apart**2 <= radius * (1 + v**2):
            near[found] = i
            found += 1
    return near[:found]


@compiled
def _hit(place, ray, objects, near, normal):
    """Depth and object of the first thing that a ray from inside the room meets; its normal is written."""
    room, kind, centre, size = objects
    direction, inverse = ray
    nearest, which, side = np.inf, NOTHING, 0
    for k in range(3):  # the wall: the first of the three that it leaves by
        if direction[k] != 0:
            far = ((room[1, k] if direction[k] > 0 else room[0, k]) - place[k]) * inverse[k]
            if far < nearest:
                nearest, side = far, k
    for i in near:
        if kind[i] == BALL:
            a = b = c = 0.0
            for k in range(3):
                off = place[k] - centre[i, k]
                a += direction[k] ** 2
                b += direction[k] * off
                c += off**2
            root = b**2 - a * (c - size[i, 0] ** 2)
            if root > 0:
                far = (-b - np.sqrt(root)) / a
                if NEAREST < far < nearest:
                    nearest, which = far, i
        else:
            enter, leave, first = -np.inf, np.inf, 0
            for k in range(3):
                off = centre[i, k] - place[k]
                one, two = (off - size[i, k]) * inverse[k], (off + size[i, k]) * inverse[k]
                if min(one, two) > enter:
                    enter, first = min(one, two), k
                leave = min(leave, max(one, two))
            if enter <= leave and NEAREST < enter < nearest:
                nearest, which, side = enter, i, first
    if which >= 0 and kind[which] == BALL:
        for k in range(3):
            normal[k] = (place[k] + nearest * direction[k] - centre[which, k]) / size[which, 0]
    else:
        normal[:] = 0.0
        normal[side] = -1.0 if direction[side] > 0 else 1.0
    return nearest, which


@compiled
def _shade(hit, normal, which, pixel, objects, paint):
    """Intensity of a point; waves of the texture that a pixel, so many m wide, cannot show fade out."""
    texture, tone, light = paint
    centre = objects[2]
    value, total = 0.0, 0.0
    for w in range(WAVES):
        turns, square = texture[which, w, 3], 0.0
        for k in range(3):
            at = hit[k] - (centre[which, k] if which >= 0 else 0.0)  # textures move with their objects
            turns += texture[which, w, k] * at
            square += texture[which, w, k] ** 2
        total += texture[which, w, 4]
        shown = 1 - 4 * square * pixel**2  # at two pixels a wave, nothing
        if shown > 0:
            part = turns - np.floor(turns) - 0.5
            value += texture[which, w, 4] * shown**2 * part * (8 - 16 * abs(part))  # a sine of two parabolas
    value = 2.5 * value / total
    value /= 1 + abs(value)  # patches with soft borders
    lit = 0.0
    for k in range(3):
        lit += normal[k] * light[k]
    return np.exp(tone[which, 0] + tone[which, 1] * value) * (0.45 + 0.55 * max(lit, 0.0))
