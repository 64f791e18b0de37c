"""Where the face is: one track a clip, and the share of time without any face.

Boxes are found on every fifth frame, by OpenCV's cascade or by a model that the user names, or they are
supplied. Drawn portraits are no faces to a detector, so synthetic clips are left out.
"""

from typing import Any, NamedTuple

import numpy as np

from prefkit.media import Frame
from prefkit.metrics.face_detectors import chosen_detector, shrunk
from prefkit.metrics.face_tracks import OVERLAP, FaceTrack, Sample, face_track, intersection_over_union, smoothed
from prefkit.metrics.metric import Measurement, Metric, NotScored, ScoredClip, lacking_packages
from prefkit.metrics.supplied import for_frames

STRIDE = 5  # frames
EVERYWHERE = 25  # frames: so often the whole picture is searched, in between the surroundings of the known faces
REACH = 0.6  # of a face's size, to either side
CUT = 40.0  # grey levels, mean over a thumbnail, from one sample to the next: another scene
THUMBNAIL = 32
DETECTORS = ("yunet", "mediapipe_face")  # names of weights


class Faces(NamedTuple):
    """What was found on the frames that were looked at.

    Attributes:
        samples: a sample for each of them.
        points: frame -> float64 [N, 5, 2], in the order of the sample's boxes, where the detector tells them.
        made_by: the detector.
    """

    samples: list[Sample]
    points: dict[int, np.ndarray]
    made_by: dict[str, Any]


class _FaceReader:
    def __init__(self, scored: ScoredClip):
        self._detect, self._made_by = chosen_detector(scored.weights)
        self._samples: list[Sample] = []
        self._points: dict[int, np.ndarray] = {}
        self._thumbnail: np.ndarray | None = None
        self._last: Frame | None = None

    def add(self, frame: Frame) -> None:
        self._last = frame
        if frame.index % STRIDE == 0:
            self._look_at(frame)

    def result(self) -> Faces:
        if self._last is not None and self._last.index % STRIDE:
            self._look_at(self._last)  # so that no face is drawn out beyond what was seen
        return Faces(self._samples, self._points, self._made_by)

    def _look_at(self, frame: Frame) -> None:
        import cv2

        small, scale = shrunk(frame.rgb)
        thumbnail = cv2.resize(small, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.int16)
        cut = self._thumbnail is not None and float(np.abs(thumbnail - self._thumbnail).mean()) > CUT
        self._thumbnail = thumbnail
        known = self._samples[-1].boxes * scale if self._samples and not cut and frame.index % EVERYWHERE else None
        found = None if known is None else self._near(small, known)
        if found is None:
            found = self._detect(small)
        found = found / scale
        self._samples.append(Sample(frame.index, found[:, :4], cut))
        if found.shape[1] > 4:
            self._points[frame.index] = found[:, 4:14].reshape(-1, 5, 2)

    def _near(self, small: np.ndarray, known: np.ndarray) -> np.ndarray | None:
        """The faces that were there at the last sample, sought around where they were; None if all are lost."""
        found = []
        for box in known:
            reach = (box[2:] - box[:2]) * REACH
            left, top = (int(max(0, side)) for side in box[:2] - reach)
            right, bottom = (int(side) for side in box[2:] + reach)
            faces = self._detect(np.ascontiguousarray(small[top:bottom, left:right]))
            faces = faces + np.tile([left, top], faces.shape[1] // 2)
            overlaps = intersection_over_union(box, faces[:, :4])
            if len(faces) and overlaps.max() >= OVERLAP:
                found.append(faces[overlaps.argmax()])
        return np.stack(found) if found else None


def faces(scored: ScoredClip) -> _FaceReader:
    """A reading of a clip's `Faces`.

    Raises:
        NotScored: it is a drawn portrait, or its boxes are supplied.
    """
    if scored.synthetic:
        raise NotScored("not_applicable", "a drawn portrait is no face to a detector")
    if "boxes" in scored.supplied:
        raise NotScored("not_applicable", "the boxes are supplied")
    return _FaceReader(scored)


def track(scored: ScoredClip) -> FaceTrack:
    """The clip's largest steady face, from the supplied boxes or what `faces` saw.

    Raises:
        NotScored: there is none.
    """
    if "boxes" in scored.supplied:
        return _supplied_track(for_frames(scored.supplied, "boxes", scored.num_frames))
    found = scored.seen(faces)
    chosen = face_track(found.samples, scored.num_frames, STRIDE)
    if chosen is None:
        raise NotScored("no_face", "no face is found in the clip")
    return FaceTrack(chosen.first, chosen.boxes, found.made_by | chosen.details)


def _supplied_track(boxes: np.ndarray) -> FaceTrack:
    known = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if not len(known):
        raise NotScored("no_face", "the supplied boxes have no face in any frame")
    first, last = int(known[0]), int(known[-1])
    frames = np.arange(first, last + 1)
    filled = np.stack([np.interp(frames, known, boxes[known, side]) for side in range(4)], axis=1)
    return FaceTrack(first, smoothed(filled), {"detector": "supplied", "frames": [first, last], "boxes": len(known)})


def _no_face_ratio(scored: ScoredClip) -> Measurement:
    if "boxes" in scored.supplied:
        missing = ~np.isfinite(for_frames(scored.supplied, "boxes", scored.num_frames)).all(axis=1)
        return Measurement(float(missing.mean()), {"detector": "supplied"})
    found = scored.seen(faces)
    # a frame between two samples counts with the nearer one
    at = np.array([sample.frame for sample in found.samples])
    empty = np.array([len(sample.boxes) == 0 for sample in found.samples])
    middles = (at[:-1] + at[1:]) / 2
    ratio = empty[np.searchsorted(middles, np.arange(scored.num_frames))].mean()
    return Measurement(float(ratio), found.made_by | {"samples_without_face": at[empty].tolist()})


METRICS = [
    Metric(
        name="no_face_ratio",
        version="1",
        direction="lower",
        unit="",
        needs=("frames",),
        source="prefkit; OpenCV's cascade (Viola & Jones 2001), YuNet or MediaPipe",
        description="share of frames in which no face is found",
        score=_no_face_ratio,
        reads=(faces,),
        lacks=lacking_packages("cv2"),
        weights=DETECTORS,
        supplies=("boxes",),
    ),
]
