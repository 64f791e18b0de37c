"""SyncNet against the published implementation, and its arithmetic on features with known shifts."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from python_speech_features import mfcc
from safetensors import safe_open

from prefkit.errors import PrefkitError
from prefkit.metrics.sync_distances import sync_distances
from prefkit.metrics.syncnet import (
    SyncNet,
    SyncNetConfig,
    embed_lips,
    load_syncnet,
    make_embedder,
    mfcc_columns,
    sync_scores,
)
from prefkit.metrics.weights import save_weights

GOLDEN = Path(__file__).parents[2] / "golden" / "syncnet.safetensors"
SMALL = SyncNetConfig(
    frame_size=64, audio_widths=(4,) * 6, lip_widths=(4,) * 6, hidden=8, embedding=8, first_stride=1, variant="test"
)


def fill_like_the_golden_file(model: SyncNet) -> None:
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        random = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
        random = random.astype(np.float32)
        if random.ndim > 1:
            random = random * np.sqrt(2 / random[0].size)
        elif name.endswith("running_var"):
            random = 1 + 0.1 * np.abs(random)
        elif name.endswith(("running_mean", "bias")):
            random = 0.1 * random
        else:
            random = 1 + 0.1 * random
        tensor.copy_(torch.from_numpy(random.astype(np.float32)))


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def relative_error(got, expected):
    return np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()


def test_parity_with_the_published_network(golden):
    model = SyncNet()
    assert len(model.state_dict()) == 102
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_631_616
    fill_like_the_golden_file(model)
    frames = golden["in.frames_bgr_uint8"][..., ::-1]

    scores = sync_scores(frames, golden["in.audio_int16"], model)

    assert relative_error(mfcc_columns(golden["in.audio_int16"]), golden["mfcc"]) < 1e-6
    assert relative_error(scores.lip_embeddings, golden["out.lip_embeddings"]) < 1e-4
    assert relative_error(scores.audio_embeddings, golden["out.audio_embeddings"]) < 1e-4
    assert relative_error(scores.mean_distance, golden["out.mean_distance_by_shift"]) < 1e-4
    assert scores.offset == golden["out.offset"].item()
    assert scores.sync_d == pytest.approx(golden["out.sync_d"].item(), rel=1e-4)
    assert scores.sync_c == pytest.approx(golden["out.sync_c"].item(), rel=1e-4)


def test_folded_towers_equal_the_network():
    torch.manual_seed(0)
    model = SyncNet(SMALL)
    fill_like_the_golden_file(model)
    model.eval()
    embedder = make_embedder(model)
    frames, columns = torch.rand(12, 3, 64, 64) * 255, torch.randn(3, 1, 13, 20)
    windows = torch.stack([frames[index : index + 5].transpose(0, 1) for index in range(8)])
    with torch.inference_mode():
        found = embedder.lips(embedder.pool(embedder.frames(frames)))
        torch.testing.assert_close(found, model.forward_lip(windows), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(embedder.audio(columns), model.forward_aud(columns), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("windows", [1, 4, 7, 8, 9, 16, 17])
def test_any_number_of_windows_is_embedded_as_one_by_one(windows):
    model = SyncNet(SMALL)
    fill_like_the_golden_file(model)
    model.eval()
    frames = np.random.default_rng(windows).integers(0, 256, (windows + 4, 64, 64, 3)).astype(np.uint8)
    bgr = torch.from_numpy(frames[..., ::-1].copy()).permute(3, 0, 1, 2).float()
    with torch.inference_mode():
        wanted = torch.cat([model.forward_lip(bgr[None, :, index : index + 5]) for index in range(windows)]).numpy()
    assert relative_error(embed_lips(frames, windows, make_embedder(model)), wanted) < 1e-4


def test_long_sound_in_pieces_has_the_columns_of_the_whole():
    audio = np.random.default_rng(0).integers(-8000, 8000, 65 * 16000 + 77).astype(np.int16)
    np.testing.assert_allclose(mfcc_columns(audio), mfcc(audio, 16000).T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["reference", "valid"])
@pytest.mark.parametrize("shift", [-4, 0, 3])
def test_shifted_sound_is_found(mode, shift):
    features = np.random.default_rng(0).standard_normal((60, 32))
    lips, sound = features[20:50], features[20 - shift : 50 - shift]  # sound delayed by `shift`
    found = sync_distances(lips, sound, mode=mode)
    assert found.offset == -shift
    assert found.sync_d < 0.01 + (mode == "reference") * 10
    assert (found.sync_d0 > 1) == (shift != 0)


def test_valid_mode_has_no_padding_bias():
    rng = np.random.default_rng(1)
    confidences = {"reference": [], "valid": []}
    for _ in range(20):
        lips, sound = rng.standard_normal((2, 20, 256))
        for mode, values in confidences.items():
            values.append(sync_distances(lips, sound, mode=mode).sync_c)
    assert np.mean(confidences["valid"]) < 0.3 * np.mean(confidences["reference"])


def test_valid_mode_keeps_the_window_that_the_published_code_drops():
    frames = np.zeros((25, 64, 64, 3), np.uint8)
    audio = np.random.default_rng(2).integers(-1000, 1000, 16000 + 640).astype(np.int16)
    model = SyncNet(SMALL)
    assert len(sync_scores(frames, audio, model).lip_embeddings) == 20
    assert len(sync_scores(frames, audio, model, mode="valid").lip_embeddings) == 21


def test_weights_load_from_both_formats(tmp_path):
    model = SyncNet(SMALL)
    fill_like_the_golden_file(model)
    save_weights(tmp_path / "small.safetensors", model.state_dict(), dataclasses.asdict(SMALL))
    loaded = load_syncnet(tmp_path / "small.safetensors")
    assert loaded.config == SMALL
    torch.testing.assert_close(
        loaded.state_dict(), model.state_dict(), rtol=1e-3, atol=1e-4
    )  # stored in half precision

    public = {name: t for name, t in SyncNet().state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(public, tmp_path / "syncnet_v2.model", _use_new_zipfile_serialization=False)
    torch.testing.assert_close(
        load_syncnet(tmp_path / "syncnet_v2.model").state_dict()["netfcaud.3.weight"], public["netfcaud.3.weight"]
    )


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_bad_weights_are_one_sentence(tmp_path, capsys):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.model")
    torch.save(Malicious(), tmp_path / "malicious.model")
    (tmp_path / "text.safetensors").write_text("not weights")
    for name, words in [
        ("none.model", "no file"),
        ("other.model", "another network"),
        ("malicious.model", "cannot be read"),
        ("text.safetensors", "cannot be read"),
    ]:
        with pytest.raises(PrefkitError, match=words):
            load_syncnet(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_bad_clips_are_one_sentence():
    model = make_embedder(SyncNet(SMALL))
    frames, audio = np.zeros((25, 64, 64, 3), np.uint8), np.zeros(16000, np.int16)
    with pytest.raises(PrefkitError, match="more than 5 frames"):
        sync_scores(frames[:3], audio, model)
    with pytest.raises(PrefkitError, match="crop and resize"):
        sync_scores(frames[:, :32], audio, model)
    with pytest.raises(PrefkitError, match="int16"):
        sync_scores(frames, audio.astype(np.float32), model)
