"""Clips and sound, in and out, with PyAV.

Frames are uint8 RGB, sound is int16 mono, times are seconds from the first video frame. Files are
written whole or not at all, and the same input gives the same bytes.
"""

import hashlib
import itertools
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from PIL import Image, UnidentifiedImageError

from prefkit.errors import PrefkitError
from prefkit.workspace import atomic_write

SAMPLE_RATE = 16000
GAP = 0.005  # seconds


class MediaError(PrefkitError):
    """A media file that is missing, is not what was expected, or cannot be read."""


class NoSoundError(MediaError):
    """A clip without an audio track, where sound was expected."""


@dataclass(frozen=True)
class Clip:
    """A decoded video without its sound.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB.
        fps: average frames per second.
        timestamps: float64 [T] seconds, 0 at the first frame; uneven where the frame rate varies.
    """

    frames: np.ndarray
    fps: float
    timestamps: np.ndarray


@dataclass(frozen=True)
class Probe:
    """What a video file says about itself, without decoding it."""

    fps: float
    num_frames: int
    width: int
    height: int
    duration: float
    has_audio: bool
    codec: str
    pix_fmt: str


def probe(path: str | Path) -> Probe:
    """Looks into a video file.

    `width` and `height` are those of the frames that `read_clip` returns (after rotation). Frames are
    counted where the container does not say how many there are.

    Raises:
        MediaError: there is no such file, or it is not a video.
    """
    path = Path(path)
    with _open(path) as container:
        stream = _video_stream(container, path)
        first = next(_decode(container, stream, path), None)
        if first is None:
            raise MediaError(f"{path} has no frames; expected a video with at least one")
        turned = _rotation(first) % 180 != 0
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        num_frames = stream.frames or _count_packets(path)
        return Probe(
            fps=fps,
            num_frames=num_frames,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            duration=_seconds(stream.duration, stream.time_base) or (num_frames / fps if fps else 0.0),
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            pix_fmt=stream.codec_context.pix_fmt or "",
        )


class Frame:
    """One frame of a video: its number, its time in seconds since the first frame, and its picture.

    The picture is converted when it is first asked for, since not every reader looks at every frame.
    """

    def __init__(self, index: int, seconds: float, convert: Callable[[], np.ndarray]):
        self.index = index
        self.seconds = seconds
        self._convert = convert

    @cached_property
    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self._convert()


def stream_frames(path: str | Path) -> Iterator[Frame]:
    """Yields the frames of a video one by one, without holding the clip in memory. Use each before the next.

    Raises:
        MediaError: there is no such file, it is not a video, its frames change their size, or it cannot be
            read to its end.
    """
    path = Path(path)
    with _open(path) as container:
        stream = _video_stream(container, path)
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        to_rgb = _RGB()
        start, size = 0.0, None
        for index, frame in enumerate(_decode(container, stream, path)):
            seconds = frame.time if frame.time is not None else index / fps
            if size is None:
                start, size = seconds, (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise MediaError(f"{path} changes its frame size half-way; convert it to one size first")
            yield Frame(index, seconds - start, partial(to_rgb, frame))


def iter_frames(path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
    """Yields (uint8 [H, W, 3] RGB, seconds since the first frame) without holding the clip in memory.

    Raises:
        MediaError: as for `stream_frames`.
    """
    for frame in stream_frames(path):
        yield frame.rgb, frame.seconds


def read_clip(path: str | Path) -> Clip:
    """Decodes a whole video.

    Raises:
        MediaError: there is no such file, it is not a video, it has no frames or cannot be read to its end.
    """
    path = Path(path)
    times: list[float] = []
    frames: np.ndarray = np.empty((0, 0, 0, 3), np.uint8)
    for frame, seconds in iter_frames(path):
        if not times:
            # room for all at once: a list of frames and their stack would take twice the memory
            frames = np.empty((max(1, _declared_frames(path)), *frame.shape), np.uint8)
        if len(times) == len(frames):
            frames = np.concatenate([frames, np.empty_like(frames)])
        frames[len(times)] = frame
        times.append(seconds)
    if not times:
        raise MediaError(f"{path} has no frames; expected a video with at least one")
    timestamps = np.asarray(times, np.float64)
    return Clip(frames[: len(times)], _average_fps(path, timestamps), timestamps)


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Decodes the sound of a video or sound file.

    Sample 0 is at the first video frame (in a sound file: at its beginning): sound that starts earlier
    is cut, sound that starts later is preceded by silence. Channels are mixed down.

    Returns:
        int16 [N], mono, at `sample_rate` Hz.

    Raises:
        MediaError: there is no such file, it has no sound, or it cannot be read to its end.
    """
    path = Path(path)
    start = _video_start(path)
    with _open(path) as container:
        if not container.streams.audio:
            raise NoSoundError(f"{path} has no sound; expected a clip with an audio track")
        stream = container.streams.audio[0]
        decoded = _decode(container, stream, path)
        blocks = [_SoundBlock(frame.time, frame.sample_rate, _mono(frame)) for frame in decoded]
        end = _seconds(stream.duration, stream.time_base)
        if end is not None and stream.start_time is not None:
            end += float(stream.start_time * stream.time_base)
    if not blocks:
        raise NoSoundError(f"{path} has an audio track without any sound in it; expected at least one sample")
    return _resample(_lay_out(blocks, start, end), blocks[0].rate, sample_rate)


def count_frames(path: str | Path) -> int:
    """Decodes a video from beginning to end and returns how many frames there are: the test whether it is sound.

    Raises:
        MediaError: there is no such file, it is not a video, it has no frames or cannot be read to its end.
    """
    path = Path(path)
    with _open(path) as container:
        count = sum(1 for _ in _decode(container, _video_stream(container, path), path))
    if not count:
        raise MediaError(f"{path} has no frames; expected a video with at least one")
    return count


def write_clip(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    fps: float,
    audio: np.ndarray | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: float = 12,
) -> None:
    """Writes an H.264 (yuv420p, BT.709) mp4, with AAC where there is sound, that plays in any browser.

    4:2:0 needs even sides, so an odd side is padded by repeating its last row or column.

    Args:
        path: the file; its folder is made where there is none.
        frames: uint8 [T, H, W, 3] RGB, T ≥ 1, or one frame [H, W, 3] after the other.
        fps: frames per second.
        audio: int16 [N], mono, starting with the first frame; None for a silent file.
        sample_rate: of `audio`, in Hz.
        crf: x264's constant rate factor; lower is better and larger.

    Raises:
        ValueError: an array of another shape or type.
    """
    if audio is not None and (audio.ndim != 1 or audio.dtype != np.int16):
        raise ValueError(f"audio is {audio.dtype} {audio.shape}; expected int16 [N]")
    images = (_checked(image) for image in frames)
    first = next(images, None)
    if first is None:
        raise ValueError("there are no frames to write; expected uint8 [T, H, W, 3] with T ≥ 1")
    with atomic_write(Path(path)) as temporary:
        # bitexact leaves versions and dates out: the same input gives the same bytes
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(_url(temporary), "w", format="mp4", options=options) as container:
            video = _add_video(container, first.shape[1], first.shape[0], fps, crf)
            sound = None if audio is None or not len(audio) else _add_audio(container, sample_rate)
            for packet in _encode_video(video, itertools.chain([first], images)):
                container.mux(packet)
            if sound is not None and audio is not None:
                for packet in _encode_audio(sound, audio, sample_rate):
                    container.mux(packet)


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Writes int16 [N] mono as a WAV file."""
    if audio.ndim != 1 or audio.dtype != np.int16:
        raise ValueError(f"audio is {audio.dtype} {audio.shape}; expected int16 [N]")
    with atomic_write(Path(path)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(audio.astype("<i2").tobytes())


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as uint8 [H, W, 3] RGB; transparency is dropped.

    Raises:
        MediaError: there is no such file, or it is not an image.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"there is no file {path}; expected an image")
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise MediaError(f"{path} cannot be read as an image ({error}); expected PNG or JPEG") from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] RGB in the format of the path's suffix (.png, .jpg)."""
    with atomic_write(Path(path)) as temporary:
        Image.fromarray(image).save(temporary)


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading -----------------------------------------------------------------------------------------


def _url(path: Path) -> str:
    # without the scheme FFmpeg takes what stands before a colon in a file name for a protocol
    return f"file:{path}"


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise MediaError(f"there is no file {path}; expected a video or sound file")
    try:
        container = av.open(_url(path))
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{path} is no video or sound file that FFmpeg can read ({_cause(error)})") from error
    with container:
        yield container


def _video_stream(container: Any, path: Path) -> Any:
    kind = container.format.name
    # FFmpeg opens still images and text as videos of one frame
    if not container.streams.video or kind.endswith("_pipe") or kind in ("image2", "tty"):
        raise MediaError(f"{path} is not a video; expected a clip such as mp4, mov, webm or mkv")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _decode(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    num_packets, num_broken = 0, 0
    try:
        for packet in container.demux(stream):
            num_packets += packet.size > 0
            num_broken += packet.is_corrupt
            yield from packet.decode()
    except av.FFmpegError as error:
        raise MediaError(f"{path} cannot be read to its end ({_cause(error)}); make or copy it anew") from error
    # FFmpeg takes a truncated mp4 for a shorter one, though its index says how many packets there should be
    missing = len(stream.index_entries) - num_packets if container.format.name.startswith("mov") else 0
    if num_broken or missing > 0:
        raise MediaError(f"{path} is truncated or damaged ({num_packets} packets can be read); make or copy it anew")


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _count_packets(path: Path) -> int:
    with _open(path) as container:
        try:
            return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
        except av.FFmpegError as error:
            raise MediaError(f"{path} cannot be read to its end ({_cause(error)}); make or copy it anew") from error


def _seconds(duration: int | None, time_base: Fraction | None) -> float | None:
    return None if duration is None or time_base is None else float(duration * time_base)


def _rotation(frame: Any) -> int:
    return int(getattr(frame, "rotation", 0) or 0)


class _RGB:
    """Frames to RGB with one scaler for all: setting one up takes longer than converting a small frame."""

    def __init__(self) -> None:
        self._full, self._planes = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        # by way of 4:4:4: FFmpeg's direct conversion does not interpolate chroma and darkens by one level
        full = frame if frame.format.is_rgb else self._full.reformat(frame, format="yuv444p")
        # plane by plane: the same bytes as FFmpeg's rgb24, in half the time
        image = self._planes.reformat(full, format="gbrp").to_ndarray()
        # phones store frames lying down with the angle beside them (counter-clockwise degrees)
        turns = round(_rotation(frame) / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _declared_frames(path: Path) -> int:
    """How many frames the container says there are; 0 where it does not say."""
    with _open(path) as container:
        return int(container.streams.video[0].frames)


def _average_fps(path: Path, timestamps: np.ndarray) -> float:
    with _open(path) as container:
        rate = container.streams.video[0].average_rate
    if rate:
        return float(rate)
    if len(timestamps) > 1 and timestamps[-1] > 0:
        return float((len(timestamps) - 1) / timestamps[-1])
    raise MediaError(f"{path} does not say its frame rate; convert it to mp4 first")


def _video_start(path: Path) -> float:
    """When the first video frame is shown, in container seconds; 0 without video."""
    with _open(path) as container:
        if not container.streams.video:
            return 0.0
        stream = container.streams.video[0]
        first = next(_decode(container, stream, path), None)
        return float(first.time) if first is not None and first.time is not None else 0.0


class _SoundBlock(NamedTuple):
    time: float | None  # container seconds
    rate: int
    samples: np.ndarray  # float32 [N] mono


def _lay_out(blocks: list[_SoundBlock], start: float, end: float | None) -> np.ndarray:
    """Float32 [N] mono at the blocks' own rate; sample 0 at container second `start`, gaps silent."""
    rate = blocks[0].rate
    pieces: list[tuple[int, np.ndarray]] = []
    position = 0
    for block in blocks:
        if block.time is not None:
            said = round((block.time - start) * rate)
            # containers round times to a millisecond: blocks follow each other unless there is a real gap
            position = said if not pieces or abs(said - position) > GAP * rate else position
        pieces.append((position, block.samples))
        position += len(block.samples)
    length = max(position + len(samples) for position, samples in pieces)
    if end is not None:
        # the codec fills its last frame with silence that the container's duration leaves out
        length = min(length, round((end - start) * rate))
    sound = np.zeros(max(length, 0), np.float32)
    for position, samples in pieces:
        skip = max(0, -position)
        kept = samples[skip : max(skip, len(sound) - position)]
        sound[position + skip : position + skip + len(kept)] = kept
    return sound


def _mono(frame: Any) -> np.ndarray:
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    mixed = array.astype(np.float64).mean(axis=0)
    if array.dtype == np.uint8:
        return ((mixed - 128) / 128).astype(np.float32)
    scale = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max) + 1
    return (mixed / scale).astype(np.float32)


def _resample(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Float32 [N] in [-1, 1] at `rate` -> int16 at `wanted` Hz."""
    if rate == wanted or not len(sound):
        return _to_int16(sound)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    return np.concatenate(
        [_to_int16(out.to_ndarray()[0]) for block in (*_blocks(sound, rate), None) for out in resampler.resample(block)]
        or [np.zeros(0, np.int16)]
    )


def _blocks(sound: np.ndarray, rate: int) -> Iterator[Any]:
    """Frames of ten seconds, so that the resampler's copies stay small."""
    for first in range(0, len(sound), 10 * rate):
        piece = np.ascontiguousarray(sound[None, first : first + 10 * rate])
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate = rate
        yield frame


def _to_int16(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.round(sound.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


# --- writing -----------------------------------------------------------------------------------------


def _checked(image: np.ndarray) -> np.ndarray:
    """The frame, with even sides."""
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a frame is {image.dtype} {image.shape}; expected uint8 [H, W, 3]")
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _add_video(container: Any, width: int, height: int, fps: float, crf: float) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / rate
    # a fixed number of threads: bytes do not depend on the machine's cores; no B-frames: the first frame is at zero
    # in every player; a key frame twice a second lets the annotation page seek
    context.thread_count = 4 if width * height > 256 * 256 else 1
    context.options = {
        "crf": str(crf),
        "preset": "medium",
        "bf": "0",
        "g": str(max(1, round(fps / 2))),
        "flags": "+bitexact",
    }
    context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1  # BT.709
    context.color_range = 1  # 16–235
    return stream


def _encode_video(stream: Any, frames: Iterable[np.ndarray]) -> Iterator[Any]:
    scaler = VideoReformatter()
    for index, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = scaler.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=1)
        frame.pts = index
        frame.time_base = stream.codec_context.time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_audio(container: Any, sample_rate: int) -> Any:
    stream = container.add_stream("aac", rate=sample_rate)
    stream.codec_context.layout = "mono"
    stream.codec_context.bit_rate = 64000 if sample_rate <= 16000 else 128000
    stream.codec_context.options = {"flags": "+bitexact"}
    return stream


def _encode_audio(stream: Any, audio: np.ndarray, sample_rate: int) -> Iterator[Any]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None]), format="s16", layout="mono")
    frame.sample_rate = sample_rate
    frame.pts = 0
    frame.time_base = Fraction(1, sample_rate)
    yield from stream.encode(frame)
    yield from stream.encode(None)
