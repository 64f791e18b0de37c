"""Motion metrics follow injected motion and jitter, whatever the resolution and frame rate."""

import cv2
import numpy as np
import pytest

from prefkit.metrics.metric import NotScored


def swaying(amplitude: float, jitter: float = 0.0, size: int = 128, fps: float = 25, num_frames: int = 25):
    """A textured disc that sways by `amplitude` (share of the frame) at 1 Hz; `jitter` of the same unit."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(60, 255, (16, 16, 3)).astype(np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    shakes = rng.standard_normal((num_frames, 2)) * jitter
    frames = []
    for index in range(num_frames):
        across = amplitude * np.sin(2 * np.pi * index / fps)
        x, y = (0.25 + across + shakes[index, 0]) * size, (0.25 + shakes[index, 1]) * size
        placed = np.array([[size / 192, 0, x], [0, size / 192, y]])
        frames.append(cv2.warpAffine(texture, placed, (size, size), flags=cv2.INTER_LINEAR, borderValue=(40, 40, 40)))
    return np.stack(frames), fps


@pytest.fixture
def value(score):
    return lambda metric, clip: score(metric, *clip).value


def test_dynamic_degree_rises_with_the_amplitude(value) -> None:
    values = [value("dynamic_degree", swaying(amplitude)) for amplitude in (0.0, 0.02, 0.05, 0.1, 0.2)]
    assert values[0] == pytest.approx(0, abs=0.01)
    assert all(b > 1.5 * a for a, b in zip(values[1:], values[2:], strict=False))
    # a sine of amplitude A at 1 Hz moves at 4 A per second on average
    assert values[3] == pytest.approx(40, rel=0.25)


def test_dynamic_degree_depends_on_neither_resolution_nor_frame_rate(value) -> None:
    reference = value("dynamic_degree", swaying(0.1))
    assert value("dynamic_degree", swaying(0.1, size=512)) == pytest.approx(reference, rel=0.15)
    assert value("dynamic_degree", swaying(0.1, fps=50, num_frames=50)) == pytest.approx(reference, rel=0.15)


def test_flow_acceleration_rises_with_jitter(value) -> None:
    smooth, shaky, wild = (value("flow_acceleration", swaying(0.05, jitter)) for jitter in (0, 0.005, 0.02))
    assert smooth < 0.3 * shaky and shaky < 0.6 * wild


def test_motion_needs_frames_to_compare(value) -> None:
    with pytest.raises(NotScored, match="fewer than 2 frames"):
        value("dynamic_degree", swaying(0.1, num_frames=1))
    with pytest.raises(NotScored, match="fewer than 3 frames"):
        value("flow_acceleration", swaying(0.1, num_frames=2))
    with pytest.raises(NotScored, match="smaller than 16 px"):
        value("dynamic_degree", swaying(0.1, size=8))
