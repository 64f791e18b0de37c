"""Clips and sound survive the way out and in; what cannot be read is one sentence."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from prefkit.media import (
    MediaError,
    iter_frames,
    probe,
    read_audio,
    read_clip,
    read_image,
    sha256_file,
    write_clip,
    write_image,
    write_wav,
)


def moving_pattern(num_frames: int = 25, height: int = 64, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack([128 + 90 * np.sin(x / 9 + t / 5), 128 + 90 * np.cos(y / 7), 128 + 50 * np.sin((x + y) / 11)], -1)
        for t in range(num_frames)
    ]
    return np.stack(frames).astype(np.uint8)


def clicks(at: list[int], length: int = 16000) -> np.ndarray:
    audio = np.zeros(length, np.int16)
    for start in at:
        audio[start : start + 80] = (12000 * np.sin(np.arange(80) / 3)).astype(np.int16)
    return audio


def lag(audio: np.ndarray, other: np.ndarray) -> int:
    """By how many samples `other` is late."""
    length = min(len(audio), len(other))
    correlation = np.correlate(other[:length].astype(float), audio[:length].astype(float), "full")
    return int(correlation.argmax()) - (length - 1)


def test_a_clip_round_trips_with_sound_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s "a: b%d".mp4'  # quotes, spaces, a colon and a pattern
    frames, audio = moving_pattern(), clicks([1000, 5000, 9000, 15900])
    write_clip(path, frames, 25, audio)

    clip = read_clip(path)
    assert clip.frames.shape == frames.shape and clip.frames.dtype == np.uint8
    assert clip.fps == 25
    np.testing.assert_allclose(clip.timestamps, np.arange(25) / 25, atol=1e-9)
    difference = clip.frames.astype(int) - frames
    assert np.abs(difference).mean() < 2.5
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.3  # no colour cast

    heard = read_audio(path)
    assert heard.shape == audio.shape and heard.dtype == np.int16
    assert abs(lag(audio, heard)) <= 16  # 1 ms
    assert np.corrcoef(audio, heard)[0, 1] > 0.99


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, moving_pattern(5), 25, clicks([500], 3200))
    assert sha256_file(tmp_path / "a.mp4") == sha256_file(tmp_path / "b.mp4")


def test_odd_sides_are_padded_by_repetition(tmp_path: Path) -> None:
    frames = moving_pattern(3, 33, 47)
    write_clip(tmp_path / "odd.mp4", frames, 25)
    read = read_clip(tmp_path / "odd.mp4").frames
    assert read.shape == (3, 34, 48, 3)
    assert np.abs(read[:, :33, :47].astype(int) - frames).mean() < 2.5
    assert np.abs(read[:, 33, :47].astype(int) - frames[:, 32]).mean() < 4


def test_audio_is_resampled(tmp_path: Path) -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)).astype(np.int16)
    write_wav(tmp_path / "tone.wav", tone, 44100)
    np.testing.assert_array_equal(read_audio(tmp_path / "tone.wav", 44100), tone)
    heard = read_audio(tmp_path / "tone.wav")
    expected = 8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert abs(len(heard) - 16000) <= 1
    np.testing.assert_allclose(heard[200:15800], expected[200:15800], atol=80)


def write_with_times(path: Path, pts_ms: list[int], audio_start_ms: int | None = None) -> None:
    """A Matroska file with the given frame times, and PCM clicks that start at the given time."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.options = {"bf": "0"}
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono") if audio_start_ms is not None else None
        for pts, image in zip(pts_ms, moving_pattern(len(pts_ms)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is None or audio_start_ms is None:
            return
        block = av.AudioFrame.from_ndarray(clicks([1600])[None], format="s16", layout="mono")
        block.sample_rate, block.time_base = 16000, Fraction(1, 16000)
        block.pts = audio_start_ms * 16
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 120, 160, 400]
    write_with_times(tmp_path / "vfr.mkv", times)
    np.testing.assert_allclose(read_clip(tmp_path / "vfr.mkv").timestamps * 1000, times, atol=1)
    assert [round(seconds * 1000) for _, seconds in iter_frames(tmp_path / "vfr.mkv")] == times
    assert probe(tmp_path / "vfr.mkv").num_frames == 5


@pytest.mark.parametrize(("video_ms", "audio_ms", "click_ms"), [(0, 200, 300), (200, 0, -100), (0, 0, 100)])
def test_sample_zero_is_the_first_frame(tmp_path: Path, video_ms: int, audio_ms: int, click_ms: int) -> None:
    write_with_times(tmp_path / "late.mkv", [video_ms + 40 * i for i in range(10)], audio_ms)
    heard = read_audio(tmp_path / "late.mkv")
    loud = np.flatnonzero(np.abs(heard) > 2000)
    if click_ms < 0:
        assert not len(loud)  # it sounded before the picture began
        return
    assert abs(loud[0] - click_ms * 16) <= 16


def test_rounded_times_make_no_clicks(tmp_path: Path) -> None:
    # Matroska rounds to milliseconds; at 44.1 kHz a block of 1024 samples lasts 23.22 ms
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(20480) / 44100)).astype(np.int16)
    with av.open(str(tmp_path / "tone.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44100, layout="mono")
        for start in range(0, len(tone), 1024):
            block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            block.sample_rate, block.time_base, block.pts = 44100, Fraction(1, 44100), start
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    heard = read_audio(tmp_path / "tone.mkv", 44100)
    np.testing.assert_array_equal(heard[: len(tone)], tone)


def test_a_phone_clip_is_turned_upright(tmp_path: Path) -> None:
    frames = moving_pattern(2, 48, 64)
    frames[:, :, :16] = (250, 10, 10)  # red on the left
    write_clip(tmp_path / "lying.mp4", frames, 25)
    data = bytearray((tmp_path / "lying.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of other fields
    # QuickTime's matrix for "turn by 90° clockwise to show": what was left comes to the top
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(bytes(data))
    upright = read_clip(tmp_path / "phone.mp4").frames
    assert upright.shape == (2, 64, 48, 3)
    assert upright[0, :12, :, 0].mean() > 200 and upright[0, :12, :, 1].mean() < 60
    assert (probe(tmp_path / "phone.mp4").height, probe(tmp_path / "phone.mp4").width) == (64, 48)


def test_probe(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving_pattern(12, 32, 48), 24, clicks([100], 8000))
    found = probe(tmp_path / "clip.mp4")
    assert (found.fps, found.num_frames, found.width, found.height) == (24, 12, 48, 32)
    assert found.duration == pytest.approx(0.5)
    assert (found.has_audio, found.codec, found.pix_fmt) == (True, "h264", "yuv420p")
    write_clip(tmp_path / "silent.mp4", moving_pattern(2), 30000 / 1001)
    assert not probe(tmp_path / "silent.mp4").has_audio
    assert probe(tmp_path / "silent.mp4").fps == pytest.approx(30000 / 1001)


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no file"):
        read_clip(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(MediaError, match=r"text\.mp4 is no video"):
        read_clip(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match=r"empty\.mp4"):
        probe(tmp_path / "empty.mp4")
    write_image(tmp_path / "image.png", moving_pattern(1)[0])
    with pytest.raises(MediaError, match="not a video"):
        read_clip(tmp_path / "image.png")
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(MediaError):
        read_clip(tmp_path / "notes.txt")
    write_wav(tmp_path / "sound.wav", clicks([100]))
    with pytest.raises(MediaError, match="not a video"):
        read_clip(tmp_path / "sound.wav")
    write_clip(tmp_path / "silent.mp4", moving_pattern(2), 25)
    with pytest.raises(MediaError, match="has no sound"):
        read_audio(tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match="expected PNG"):
        read_image(tmp_path / "text.mp4")


def test_a_truncated_clip_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3)).astype(np.uint8)
    write_clip(tmp_path / "whole.mp4", noise, 25, clicks([100]))
    data = (tmp_path / "whole.mp4").read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(MediaError, match=r"cut\.mp4"):
            read_clip(tmp_path / "cut.mp4")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        write_clip(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3)), 25)
    with pytest.raises(ValueError, match="expected int16"):
        write_clip(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3), np.uint8), 25, np.zeros(10))
    assert not list(tmp_path.iterdir())


def test_an_image_round_trips(tmp_path: Path) -> None:
    image = moving_pattern(1)[0]
    write_image(tmp_path / "image.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image)


def test_large_frames_give_the_same_bytes_too(tmp_path: Path) -> None:
    # encoded by several threads, whose number must not depend on the machine
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, moving_pattern(8, 360, 480), 25)
    assert sha256_file(tmp_path / "a.mp4") == sha256_file(tmp_path / "b.mp4")
