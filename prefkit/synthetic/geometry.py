"""Where everything is: 68 facial landmarks (iBUG order) and 18 body keypoints (COCO-18, OpenPose order)."""

import numpy as np

from prefkit.synthetic.identity import Identity
from prefkit.synthetic.performance import Performance

FRAME_SIZE = 64
MOUTH_OPENING = 6.5  # pixels between the inner lips at aperture 1

NOSE, NECK = 0, 1
SHOULDERS, ELBOWS, WRISTS = (2, 5), (3, 6), (4, 7)  # on the left and right of the picture
EYES, EARS = (14, 15), (16, 17)


def landmarks(identity: Identity, performance: Performance) -> np.ndarray:
    """Returns float32 [T, 68, 2], x and y in pixels."""
    frames = [_face(identity, performance, frame) for frame in range(len(performance.aperture))]
    return place(np.stack(frames), performance).astype(np.float32)


def keypoints(identity: Identity, performance: Performance) -> np.ndarray:
    """Returns float32 [T, 18, 3]: x, y in pixels and 1 where the point exists (hips and legs do not)."""
    frames = len(performance.aperture)
    points = np.zeros((frames, 18, 3), np.float32)
    head = np.zeros((frames, 5, 2))
    yaw = performance.head[:, 3]
    head[:, 0] = np.stack([1.5 * yaw, np.full(frames, 3.0)], axis=1)
    for slot, side in ((1, -1), (2, 1)):
        head[:, slot] = np.stack([side * identity.eye_distance + yaw, np.full(frames, -4.5)], axis=1)
        head[:, slot + 2] = np.stack([np.full(frames, side * identity.face_width), np.full(frames, 0.5)], axis=1)
    points[:, (NOSE, *EYES, *EARS), :2] = place(head, performance)
    points[:, NECK, :2] = performance.body + (32, 52)
    for i, side in enumerate((-1, 1)):
        points[:, SHOULDERS[i], :2] = performance.body + (32 + side * 15, 54)
        points[:, WRISTS[i], :2] = performance.wrists[:, i]
        points[:, ELBOWS[i], :2] = (32 + side * 22, 72)
    points[:, (NOSE, NECK, *SHOULDERS, *ELBOWS, *WRISTS, *EYES, *EARS), 2] = 1
    return points


def place(points: np.ndarray, performance: Performance) -> np.ndarray:
    """Turns and shifts points [T, N, 2] of the head's own frame into the picture."""
    shift_x, shift_y, roll, _ = performance.head.T
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    x = cos * points[..., 0] - sin * points[..., 1] + 32 + shift_x[:, None]
    y = sin * points[..., 0] + cos * points[..., 1] + 27 + shift_y[:, None]
    return np.stack([x, y], axis=-1)


def _face(identity: Identity, performance: Performance, frame: int) -> np.ndarray:
    """[68, 2] around the middle of the face."""
    opening = MOUTH_OPENING * performance.aperture[frame]
    yaw = performance.head[frame, 3]
    inner = np.concatenate(
        [
            _brow(identity, performance.brow[frame], -1),
            _brow(identity, performance.brow[frame], 1),
            _nose(yaw),
            _eye(identity, performance.eye_opening[frame], -1),
            _eye(identity, performance.eye_opening[frame], 1),
            _mouth(identity.mouth_width * performance.width[frame], opening),
        ]
    )
    return np.concatenate([_jaw(identity, opening), inner + (yaw, 0)])


def _jaw(identity: Identity, opening: float) -> np.ndarray:
    angle = np.linspace(np.pi - 0.15, 0.15, 17)
    drop = 0.2 * opening * np.sin(angle) ** 2
    return np.stack([identity.face_width * np.cos(angle), identity.face_height * np.sin(angle) + drop], axis=1)


def _brow(identity: Identity, raised: float, side: int) -> np.ndarray:
    across = np.linspace(-3.4, 3.4, 5)
    arch = -9.4 - raised - 1.1 * np.cos(across / 3.4 * 1.3)
    return np.stack([side * identity.eye_distance + across, arch], axis=1)


def _nose(yaw: float) -> np.ndarray:
    bridge = np.stack([np.linspace(0, 0.5 * yaw, 4), np.linspace(-4, 3, 4)], axis=1)
    base = np.stack([np.linspace(-2.2, 2.2, 5) + 0.5 * yaw, 4 + 0.5 * np.cos(np.linspace(-1.5, 1.5, 5))], axis=1)
    return np.concatenate([bridge, base])


def _eye(identity: Identity, opening: float, side: int) -> np.ndarray:
    height = 2.1 * opening
    x = np.array([-3.0, -1.2, 1.2, 3.0, 1.2, -1.2])
    y = np.array([0, -height, -height, 0, 0.8 * height, 0.8 * height])
    return np.stack([side * identity.eye_distance + x, y - 4.5], axis=1)


def _mouth(half_width: float, opening: float) -> np.ndarray:
    """Outer lips 48–59, then inner lips 60–67; the lower lip takes most of the opening."""
    top, bottom = 9.6 - 0.3 * opening, 9.6 + 0.7 * opening
    outer = half_width + 0.8
    upper_x = np.linspace(-outer, outer, 7)
    upper = np.stack([upper_x, 9.6 + (top - 1.5 - 9.6) * _dome(upper_x / outer)], axis=1)
    lower_x = np.linspace(outer, -outer, 7)[1:-1]
    lower = np.stack([lower_x, 9.6 + (bottom + 1.8 - 9.6) * _dome(lower_x / outer)], axis=1)
    inner_x = np.linspace(-half_width, half_width, 5)
    inner_top = np.stack([inner_x, 9.6 + (top - 9.6) * _dome(inner_x / half_width)], axis=1)
    back_x = inner_x[3:0:-1]
    inner_bottom = np.stack([back_x, 9.6 + (bottom - 9.6) * _dome(back_x / half_width)], axis=1)
    return np.concatenate([upper, lower, inner_top, inner_bottom])


def _dome(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(1 - x**2, 0, 1))
