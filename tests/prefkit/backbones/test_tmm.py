import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.backbones.tmm import (
    AudioProjection,
    SkeletonProjection,
    SkeletonPyramid,
    fold_frames,
    num_latent_frames,
    prepend_reference_frame,
    unfold_frames,
)

factors = st.integers(1, 6)
counts = st.integers(0, 6)


@given(factor=factors, k=counts)
def test_folding_keeps_every_frame_in_order_and_repeats_only_the_first(factor, k):
    frames = torch.arange(2 * (factor * k + 1)).view(2, -1, 1)
    folded = fold_frames(frames, factor)
    assert folded.shape == (2, k + 1, factor, 1)
    assert torch.equal(folded.flatten(1, 2)[:, factor - 1 :], frames)
    assert torch.equal(folded[:, 0], frames[:, :1].expand(-1, factor, -1))


@given(factor=factors, k=counts, rest=st.lists(st.integers(1, 3), max_size=3))
def test_folding_can_be_undone(factor, k, rest):
    frames = torch.randn(2, factor * k + 1, *rest)
    assert torch.equal(unfold_frames(fold_frames(frames, factor)), frames)


@given(
    factor=factors,
    k=st.integers(0, 3),
    widths=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_the_pyramid_takes_any_factor_and_widths_and_keeps_frames_apart(factor, k, widths, data):
    torch.manual_seed(0)
    pyramid = SkeletonPyramid(channels=3, widths=widths, factor=factor)
    skeleton = torch.randn(1, 3, factor * k + 1, 5, 6)
    frame = data.draw(st.integers(0, factor * k))
    with torch.no_grad():
        before = pyramid(skeleton)
        skeleton[:, :, frame] += torch.randn(3, 5, 6)
        after = pyramid(skeleton)
    own, place = (frame + factor - 1) // factor, (frame + factor - 1) % factor
    high, wide = 5, 6
    for width, old, new in zip(widths, before, after, strict=True):
        frame_width = -(-width // factor)
        assert old.shape == (1, k + 1, factor * frame_width, high, wide)
        moved = (old != new).unflatten(2, (factor, frame_width)).any(dim=(0, 3, 4, 5))
        # the first frame is alone in its latent frame, as often as the factor says
        expected = {(0, each) for each in range(factor)} if frame == 0 else {(own, place)}
        assert set(map(tuple, moved.nonzero().tolist())) <= expected
        high, wide = -(-high // 2), -(-wide // 2)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@given(frames=st.integers(-3, 60), factor=factors)
def test_only_whole_groups_after_the_first_frame_fold(frames, factor):
    if frames >= 1 and frames % factor == 1 % factor:
        assert factor * (num_latent_frames(frames, factor) - 1) + 1 == frames
        return
    with pytest.raises(ValueError, match=f"Found {frames} frames, expected {factor}k \\+ 1"):
        num_latent_frames(frames, factor)


@given(frame=st.integers(0, 12))
@settings(max_examples=13, deadline=None)
def test_one_frame_moves_only_the_tokens_of_its_own_latent_frame(frame):
    torch.manual_seed(0)
    skeleton, audio = torch.randn(1, 3, 13, 4, 4), torch.randn(1, 13, 2, 2, 3)
    skeleton_proj = SkeletonProjection(channels=3, dim=8, factor=4, patch_size=(2, 2))
    audio_proj = AudioProjection(window=2, blocks=2, channels=3, hidden_dim=6, context_tokens=2, dim=8, factor=4)
    with torch.no_grad():
        before = skeleton_proj(skeleton), audio_proj(audio)
        skeleton[:, :, frame] += 1
        audio[:, frame] += 1
        after = skeleton_proj(skeleton), audio_proj(audio)
    own = (frame + 3) // 4
    for old, new in zip(before, after, strict=True):
        moved = (old != new).any(dim=(0, 2, 3))
        assert moved.nonzero().flatten().tolist() == [own]


def test_a_skeleton_token_is_its_patch_in_four_consecutive_frames():
    projection = SkeletonProjection(channels=3, dim=8, factor=4, patch_size=(2, 2))
    skeleton = torch.randn(1, 3, 5, 4, 4)
    tokens = projection(skeleton)
    assert tokens.shape == (1, 2, 4, 8)
    moved = skeleton.clone()
    moved[:, :, 3, 2:, :2] += 1  # frame 3 is the third of latent frame 1, its patch the third in row-major order
    difference = (projection(moved) != tokens).nonzero()
    assert set(map(tuple, difference[:, :3].tolist())) == {(0, 1, 2)}
    assert set(difference[:, 3].tolist()) <= {4, 5}


def test_the_reference_latent_has_no_motion():
    tokens = torch.randn(2, 3, 4, 8)
    framed = prepend_reference_frame(tokens)
    assert torch.equal(framed[:, 1:], tokens)
    assert not framed[:, 0].any()


def test_width_must_hold_whole_frames():
    with pytest.raises(ValueError, match="width of 10, expected a multiple of the temporal factor 4"):
        SkeletonProjection(channels=3, dim=10, factor=4, patch_size=(2, 2))
