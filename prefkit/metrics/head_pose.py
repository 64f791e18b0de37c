"""Head pose from landmarks, and landmarks as they would be seen from the front: arithmetic only.

The head is taken for a rigid face seen by a camera far away (scaled orthography; DeMenthon & Davis 1995 call
the fit POS): the best affine map of a mean face's eye corners and nose is brought to the nearest rotation. Each
landmark's depth is the mean face's, so turning it back makes lengths of lips, lids and brows independent of
yaw and pitch as far as the face is like the mean one. Beyond `MOST_YAW` half of it is hidden and the frame
is left out.
"""

from dataclasses import dataclass

import numpy as np

from prefkit.metrics.landmarks import STABLE

MOST_YAW = 40.0  # degrees
MOST_PITCH = 35.0

# The mean face of MediaPipe's face geometry (canonical_face_model, Apache-2.0) at iBUG's 68 points, in
# centimetres: right in the picture, down, away from the camera.
MEAN_FACE = np.array(
    [
        (-7.56, -4.11, 0.99), (-7.66, -0.67, 2.44), (-7.54, 1.05, 2.43), (-6.72, 4.79, 1.75),
        (-5.94, 6.22, 0.63), (-5.09, 7.18, -0.71), (-3.21, 8.53, -2.80), (-1.29, 9.30, -4.09),
        (0.00, 9.40, -4.26), (1.29, 9.30, -4.09), (3.21, 8.53, -2.80), (5.09, 7.18, -0.71),
        (5.94, 6.22, 0.63), (6.72, 4.79, 1.75), (7.54, 1.05, 2.43), (7.66, -0.67, 2.44),
        (7.56, -4.11, 0.99), (-6.37, -4.79, -1.59), (-4.99, -4.80, -3.75), (-3.99, -5.11, -4.47),
        (-2.76, -5.10, -5.02), (-1.40, -5.01, -5.32), (1.40, -5.01, -5.32), (2.76, -5.10, -5.02),
        (3.99, -5.11, -4.47), (4.99, -4.80, -3.75), (6.37, -4.79, -1.59), (0.00, -3.27, -5.24),
        (0.00, -1.73, -6.32), (0.00, -0.37, -7.24), (0.00, 0.46, -7.59), (-1.04, 1.46, -5.66),
        (-0.60, 2.01, -5.87), (0.00, 2.09, -6.06), (0.60, 2.01, -5.87), (1.04, 1.46, -5.66),
        (-4.45, -2.66, -3.17), (-3.67, -2.93, -3.72), (-2.72, -2.96, -3.87), (-1.86, -2.59, -3.76),
        (-2.72, -2.32, -3.78), (-3.67, -2.36, -3.64), (1.86, -2.59, -3.76), (2.72, -2.96, -3.87),
        (3.67, -2.93, -3.72), (4.45, -2.66, -3.17), (3.67, -2.36, -3.64), (2.72, -2.32, -3.78),
        (-2.46, 4.34, -4.28), (-1.43, 3.50, -5.50), (-0.71, 3.33, -5.88), (0.00, 3.41, -5.98),
        (0.71, 3.33, -5.88), (1.43, 3.50, -5.50), (2.46, 4.34, -4.28), (1.33, 5.11, -5.21),
        (0.70, 5.29, -5.45), (0.00, 5.37, -5.54), (-0.70, 5.29, -5.45), (-1.33, 5.11, -5.21),
        (-2.15, 4.28, -4.04), (-0.53, 3.99, -5.14), (0.00, 3.99, -5.22), (0.53, 3.99, -5.14),
        (2.15, 4.28, -4.04), (0.58, 4.52, -5.34), (0.00, 4.54, -5.40), (-0.58, 4.52, -5.34),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class HeadPose:
    """The head's turn and size in each of T frames.

    Attributes:
        yaw: degrees [T], positive where the nose points to the right of the picture.
        pitch: degrees [T], positive where it points up.
        roll: degrees [T], positive clockwise in the picture.
        scale: [T] pixels a centimetre of the mean face.
        turn: [T, 2, 3], the first two rows of the rotation.
    """

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    scale: np.ndarray
    turn: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """Bool [T]: turned so little that both halves of the face are seen."""
        return (np.abs(self.yaw) <= MOST_YAW) & (np.abs(self.pitch) <= MOST_PITCH)


def fit_pose(landmarks: np.ndarray) -> HeadPose:
    """The pose of a face in each frame, from landmarks [T, 68, 2] in pixels, x right and y down."""
    solid = MEAN_FACE[STABLE] - MEAN_FACE[STABLE].mean(axis=0)
    flat = landmarks[:, STABLE] - landmarks[:, STABLE].mean(axis=1, keepdims=True)
    affine = np.swapaxes(flat, 1, 2) @ np.linalg.pinv(solid).T
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    turn = left @ right
    axis = np.cross(turn[:, 0], turn[:, 1])  # the rotation's third row
    return HeadPose(
        # the nose points along minus the third column
        yaw=np.degrees(np.arctan2(-turn[:, 0, 2], axis[:, 2])),
        pitch=np.degrees(np.arcsin(np.clip(turn[:, 1, 2], -1, 1))),
        roll=np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0])),
        scale=stretch.mean(axis=1),
        turn=turn,
    )


def from_the_front(landmarks: np.ndarray, pose: HeadPose) -> np.ndarray:
    """Landmarks [T, 68, 2] in pixels as the face would show them from the front: [T, 68, 2] in centimetres."""
    middle = landmarks[:, STABLE].mean(axis=1, keepdims=True)
    depth = MEAN_FACE[:, 2] - MEAN_FACE[STABLE, 2].mean()
    plane = (landmarks - middle) / pose.scale[:, None, None] - depth[:, None] * pose.turn[:, None, :, 2]
    return np.swapaxes(np.linalg.solve(pose.turn[:, :, :2], np.swapaxes(plane, 1, 2)), 1, 2)
