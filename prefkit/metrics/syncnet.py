"""SyncNet: how well lips follow the sound.

The network of Chung & Zisserman 2016 ("Out of time: automated lip sync in the wild") under the state-dict
names of its public weights (`syncnet_v2.model` of the project syncnet_python). The small network for
synthetic portraits that ships with prefkit is the same class with other widths and another frame size.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from python_speech_features import mfcc
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from prefkit.errors import PrefkitError
from prefkit.metrics.sync_distances import Mode, sync_distances
from prefkit.metrics.time_convolution import FRAMES, WINDOWS, TimeConvolution
from prefkit.metrics.weights import read_weights

SAMPLE_RATE = 16000
FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
WINDOW_FRAMES = 5
WINDOW_COLUMNS = 20  # MFCC columns of 10 ms
COLUMNS_PER_FRAME = 4
COEFFICIENTS = 13
TOGETHER = 16  # windows: the last layers' weights, 19 MB, are read from memory once for all of them
COLUMN_SAMPLES, COLUMN_STEP = 400, 160  # 25 ms every 10 ms, the defaults of python_speech_features
PIECE_COLUMNS = 3000


@dataclass(frozen=True)
class SyncNetConfig:
    """Sizes of a SyncNet; the defaults are the published ones.

    Attributes:
        frame_size: side in pixels of the square face crops it reads.
        audio_widths: channels of the six convolutions over MFCCs.
        lip_widths: channels of the six convolutions over frames.
        hidden: width of the first fully connected layer.
        embedding: size of an embedding.
        first_stride: stride in space of the first convolution over frames.
        variant: what the weights are for; it goes into every score's details.
    """

    frame_size: int = 224
    audio_widths: tuple[int, ...] = (64, 192, 384, 256, 256, 512)
    lip_widths: tuple[int, ...] = (96, 256, 256, 256, 256, 512)
    hidden: int = 512
    embedding: int = 1024
    first_stride: int = 2
    variant: str = "syncnet_v2"


class SyncNet(nn.Module):
    """Two towers that embed five frames of a face and the 0.2 s of sound beside them.

    Lips that say what is heard lie near it. Frames are BGR, 0-255, not normalised, as the public weights
    expect; `sync_scores` takes RGB and turns them round.
    """

    def __init__(self, config: SyncNetConfig | None = None):
        """Makes an untrained network; the published sizes by default."""
        super().__init__()
        self.config = config = config or SyncNetConfig()
        audio, lips = config.audio_widths, config.lip_widths
        self.netcnnaud = nn.Sequential(
            *_block2d(1, audio[0], 3, padding=1),
            nn.MaxPool2d(1, 1),
            *_block2d(audio[0], audio[1], 3, padding=1),
            nn.MaxPool2d(3, (1, 2)),
            *_block2d(audio[1], audio[2], 3, padding=1),
            *_block2d(audio[2], audio[3], 3, padding=1),
            *_block2d(audio[3], audio[4], 3, padding=1),
            nn.MaxPool2d(3, 2),
            *_block2d(audio[4], audio[5], (5, 4)),
        )
        first = config.first_stride
        self.netcnnlip = nn.Sequential(
            *_block3d(3, lips[0], (WINDOW_FRAMES, 7, 7), stride=first),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block3d(lips[0], lips[1], (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_block3d(lips[1], lips[2], (1, 3, 3), padding=1),
            *_block3d(lips[2], lips[3], (1, 3, 3), padding=1),
            *_block3d(lips[3], lips[4], (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block3d(lips[4], lips[5], (1, _last_kernel(config), _last_kernel(config))),
        )
        self.netfcaud = _head(audio[5], config.hidden, config.embedding)
        self.netfclip = _head(lips[5], config.hidden, config.embedding)

    def forward_aud(self, columns: Tensor) -> Tensor:
        """Embeds MFCC windows [B, 1, 13, 20] as [B, embedding]."""
        return self.netfcaud(self.netcnnaud(columns).flatten(1))

    def forward_lip(self, frames: Tensor) -> Tensor:
        """Embeds windows of BGR frames [B, 3, 5, S, S], 0-255, as [B, embedding]."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))


def _block2d(inputs: int, outputs: int, kernel: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _block3d(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
    return [convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


def _head(inputs: int, hidden: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, embedding))


def _last_kernel(config: SyncNetConfig) -> int:
    """Side of what is left of a frame in front of the last convolution, which takes all of it."""
    size = (config.frame_size - 7) // config.first_stride + 1
    size = (size - 3) // 2 + 1
    size = (size + 2 - 5) // 2 + 1
    size = (size + 2 - 3) // 2 + 1
    size = (size - 3) // 2 + 1
    if size < 1:
        raise ValueError(f"frames of {config.frame_size} px are too small for this SyncNet")
    return size


@dataclass(frozen=True)
class SyncEmbedder:
    """A SyncNet made ready for scoring: same results, about half the time.

    Batch norm is folded into the convolutions. The first one over frames, half of the work, shares its
    arithmetic among eight windows; the later ones span one frame and so are convolutions of pictures.
    """

    config: SyncNetConfig
    frames: TimeConvolution  # [12, 3, S, S] -> [8, C, h, w]
    pool: nn.Module  # to half the height and width
    lips: nn.Sequential  # [B, C, h / 2, w / 2] -> [B, embedding]
    audio: nn.Sequential  # [B, 1, 13, 20] -> [B, embedding]


def make_embedder(model: SyncNet) -> SyncEmbedder:
    """Folds a SyncNet for scoring. Make one per process and pass it to `sync_scores` for every clip."""
    model = model.eval()
    first, norm, *rest = model.netcnnlip
    assert isinstance(first, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d)
    pool, *later = _folded(nn.Sequential(*rest))
    lips = nn.Sequential(*later, nn.Flatten(), *_folded(model.netfclip))
    audio = nn.Sequential(*_folded(model.netcnnaud), nn.Flatten(), *_folded(model.netfcaud))
    for tower in (lips, audio):
        tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frames = TimeConvolution(fuse_conv_bn_eval(first, norm))
    return SyncEmbedder(model.config, frames, pool, lips.requires_grad_(False), audio.requires_grad_(False))


def _folded(layers: nn.Sequential) -> list[nn.Module]:
    """The layers without batch norm, three-dimensional ones flattened to two."""
    modules = list(layers)
    folded: list[nn.Module] = []
    for layer, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            assert isinstance(following, nn.BatchNorm2d | nn.BatchNorm3d)
            fused = fuse_conv_bn_eval(layer, following)
            folded.append(_as_conv2d(fused) if isinstance(fused, nn.Conv3d) else fused)
        elif isinstance(layer, nn.Linear) and isinstance(following, nn.BatchNorm1d):
            folded.append(fuse_linear_bn_eval(layer, following))
        elif isinstance(layer, nn.MaxPool3d):
            folded.append(nn.MaxPool2d(_plane(layer.kernel_size), _plane(layer.stride), _plane(layer.padding)))
        elif not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            folded.append(layer)
    return _pooled_first(folded)


def _pooled_first(layers: list[nn.Module]) -> list[nn.Module]:
    """ReLU after max pooling instead of before: the same values, of which there are a quarter as many."""
    for index in range(len(layers) - 1):
        if isinstance(layers[index], nn.ReLU) and isinstance(layers[index + 1], nn.MaxPool2d):
            layers[index], layers[index + 1] = layers[index + 1], layers[index]
    return layers


def _plane(sizes: int | tuple[int, ...]) -> tuple[int, int]:
    """The two spatial of three sizes."""
    return (sizes, sizes) if isinstance(sizes, int) else (sizes[-2], sizes[-1])


def _as_conv2d(convolution: nn.Conv3d) -> nn.Conv2d:
    outputs, inputs, frames, height, width = convolution.weight.shape
    stride, padding = _plane(convolution.stride), _plane(convolution.padding)  # type: ignore[arg-type]
    flat = nn.Conv2d(inputs * frames, outputs, (height, width), stride, padding)
    flat.weight.data = convolution.weight.data.reshape(outputs, inputs * frames, height, width)
    flat.bias = convolution.bias
    return flat.eval()


@dataclass(frozen=True)
class SyncEmbeddings:
    """Both sides of a face track, one row a window of five frames: what every mode of scoring starts from.

    Attributes:
        lips: float32 [n, D], windows starting at frame 0, 1, …
        sound: float32 [n, D], of the same windows.
        windows: how many of them each mode takes.
    """

    lips: np.ndarray
    sound: np.ndarray
    windows: dict[Mode, int]


@dataclass(frozen=True)
class SyncScores:
    """Lip-sync of one clip. See `prefkit.metrics.sync_distances.SyncDistances` for the scores.

    Attributes:
        lip_embeddings: float32 [n, D], one row a window of five frames, starting at frame 0, 1, …
        audio_embeddings: float32 [n, D], the sound of the same windows.
        shifts: int [S], frames by which the sound is read later than the lips.
        mean_distance: float64 [S], mean distance at every shift (S = 31 in "reference").
    """

    offset: int
    sync_c: float
    sync_d: float
    sync_d0: float
    confidence: np.ndarray
    shifts: np.ndarray
    mean_distance: np.ndarray
    lip_embeddings: np.ndarray
    audio_embeddings: np.ndarray


def sync_scores(
    frames: np.ndarray,
    audio: np.ndarray,
    model: SyncNet | SyncEmbedder,
    *,
    mode: Mode = "reference",
) -> SyncScores:
    """Scores the lip-sync of a face track.

    Args:
        frames: uint8 [T, S, S, 3], **RGB**, 25 a second, cropped to the face as the weights expect
            (S = 224 for the published network).
        audio: int16 [N], mono, 16 kHz, starting with the first frame.
        model: the network, or what `make_embedder` made of it (saves folding it for every clip).
        mode: "reference" for the published numbers; "valid" without zero padding and with every window that
            frames and sound can fill. Compare only clips of equal length either way.

    Raises:
        PrefkitError: wrong shapes or types, or too short a clip.
    """
    return score_embeddings(sync_embeddings(frames, audio, model), mode)


def sync_embeddings(frames: np.ndarray, audio: np.ndarray, model: SyncNet | SyncEmbedder) -> SyncEmbeddings:
    """Embeds every window that a mode of scoring takes; arguments and errors as for `sync_scores`."""
    embedder = model if isinstance(model, SyncEmbedder) else make_embedder(model)
    _check_inputs(frames, audio, embedder.config.frame_size)
    columns = mfcc_columns(audio)
    windows = fillable_windows(len(frames), len(audio), columns.shape[1])
    most = max(windows.values())
    return SyncEmbeddings(embed_lips(frames, most, embedder), embed_audio(columns, most, embedder), windows)


def score_embeddings(embeddings: SyncEmbeddings, mode: Mode) -> SyncScores:
    """The scores of one mode; see `sync_scores`.

    Raises:
        PrefkitError: the clip is too short for this mode.
    """
    windows = embeddings.windows[mode]
    if windows < 1:
        raise PrefkitError(
            f"the clip fills no window of {WINDOW_FRAMES} frames with sound in mode {mode!r}; give a longer clip"
        )
    lips, sound = embeddings.lips[:windows], embeddings.sound[:windows]
    distances = sync_distances(lips, sound, mode=mode)
    return SyncScores(
        offset=distances.offset,
        sync_c=distances.sync_c,
        sync_d=distances.sync_d,
        sync_d0=distances.sync_d0,
        confidence=distances.confidence,
        shifts=distances.shifts,
        mean_distance=distances.mean_distance,
        lip_embeddings=lips,
        audio_embeddings=sound,
    )


def _check_inputs(frames: np.ndarray, audio: np.ndarray, size: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (size, size, 3):
        raise PrefkitError(
            f"lip-sync got frames {frames.dtype} {list(frames.shape)} and this network reads uint8 "
            f"[T, {size}, {size}, 3]; crop and resize the face first"
        )
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise PrefkitError(
            f"lip-sync got sound {audio.dtype} {list(audio.shape)} and reads mono int16 [N] at {SAMPLE_RATE} Hz; "
            "convert it first"
        )


def mfcc_columns(audio: np.ndarray) -> np.ndarray:
    """MFCCs of int16 [N] sound, 100 columns a second: float64 [13, M].

    The public weights were trained on int16 values; float sound in -1..1 would shift the first coefficient.
    Long sound goes in pieces, since the spectra of ten minutes take half a gigabyte.
    """
    columns, first = [], 0
    while len(audio) - first * COLUMN_STEP > (PIECE_COLUMNS - 1) * COLUMN_STEP + COLUMN_SAMPLES:
        # each piece but the first begins a column early: the pre-emphasis of its first sample lacks the one before
        early = min(first, 1)
        start = (first - early) * COLUMN_STEP
        end = (first + PIECE_COLUMNS - 1) * COLUMN_STEP + COLUMN_SAMPLES
        columns.append(mfcc(audio[start:end], SAMPLE_RATE)[early:])
        first += PIECE_COLUMNS
    early = min(first, 1)
    columns.append(mfcc(audio[(first - early) * COLUMN_STEP :], SAMPLE_RATE)[early:])
    return np.concatenate(columns).T


def fillable_windows(num_frames: int, num_samples: int, num_columns: int) -> dict[Mode, int]:
    """How many windows each mode takes.

    Raises:
        PrefkitError: the clip fills none.
    """
    windows = {mode: count_windows(num_frames, num_samples, num_columns, mode) for mode in get_args(Mode)}
    if max(windows.values()) < 1:
        raise PrefkitError(
            f"lip-sync needs more than {WINDOW_FRAMES} frames with sound and the clip has {num_frames} frames "
            f"and {num_samples / SAMPLE_RATE:.2f} s of sound; give a longer clip"
        )
    return windows


def count_windows(num_frames: int, num_samples: int, num_columns: int, mode: Mode) -> int:
    """How many windows of five frames there are; as published, "reference" drops the last one."""
    if mode == "reference":
        return min(num_frames, num_samples // SAMPLES_PER_FRAME) - WINDOW_FRAMES
    return min(num_frames - WINDOW_FRAMES, (num_columns - WINDOW_COLUMNS) // COLUMNS_PER_FRAME) + 1


class LipWindows:
    """Embeds windows of five frames while the frames come in, of which no more than twelve are kept."""

    def __init__(self, embedder: SyncEmbedder, windows: int):
        """Prepares for the first `windows` windows of a clip."""
        self._embedder, self._windows = embedder, windows
        self._frames: list[Tensor] = []
        self._features: list[Tensor] = []  # of the windows that wait for the later layers
        self._embeddings: list[Tensor] = []
        self._seen = 0

    @property
    def full(self) -> bool:
        """Whether all windows are embedded."""
        return self._seen == self._windows

    def add(self, frame: np.ndarray) -> None:
        """Takes the next frame, uint8 [S, S, 3] RGB."""
        self._frames.append(torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1))
        wanted = min(WINDOWS, self._windows - self._seen)
        if wanted and len(self._frames) == wanted + WINDOW_FRAMES - 1:
            self._see(wanted)

    @torch.inference_mode()
    def _see(self, windows: int) -> None:
        missing = FRAMES - len(self._frames)  # at the clip's end, where fewer than eight windows are left
        pictures = torch.stack(self._frames + self._frames[-1:] * missing).float()
        self._features.append(self._embedder.pool(self._embedder.frames(pictures)[:windows]))
        self._seen += windows
        self._frames = self._frames[windows:]
        if self.full or WINDOWS * len(self._features) == TOGETHER:
            self._embeddings.append(self._embedder.lips(torch.cat(self._features)))
            self._features = []

    def embeddings(self) -> np.ndarray:
        """float32 [windows, D].

        Raises:
            ValueError: fewer frames came in than the windows need.
        """
        if not self.full:
            raise ValueError(f"{self._windows} windows were announced and the frames filled {self._seen}")
        return torch.cat(self._embeddings).numpy()


def embed_lips(frames: np.ndarray, windows: int, embedder: SyncEmbedder) -> np.ndarray:
    """Embeds the first `windows` windows of RGB frames uint8 [T, S, S, 3]: float32 [windows, D]."""
    lips = LipWindows(embedder, windows)
    for frame in frames[: windows + WINDOW_FRAMES - 1]:
        lips.add(frame)
    return lips.embeddings()


@torch.inference_mode()
def embed_audio(columns: np.ndarray, windows: int, embedder: SyncEmbedder, batch_size: int = 32) -> np.ndarray:
    """Embeds the first `windows` windows of MFCCs [13, M]: float32 [windows, D]."""
    sound = torch.from_numpy(np.ascontiguousarray(columns)).float()
    stacked = sound.unfold(1, WINDOW_COLUMNS, COLUMNS_PER_FRAME)[:, :windows].permute(1, 0, 2).unsqueeze(1)
    return torch.cat(
        [embedder.audio(batch.contiguous(memory_format=torch.channels_last)) for batch in stacked.split(batch_size)]
    ).numpy()


def load_syncnet(path: str | Path) -> SyncNet:
    """Loads weights: the public `syncnet_v2.model` (or any `torch.save` of its state dict), or safetensors.

    Pickled files are read weights-only: no code in them runs. A safetensors file whose metadata has a
    `config` (as `prefkit.metrics.weights` writes it) gives its own sizes; every other file is taken for the
    published network.

    Raises:
        PrefkitError: there is no such file, it cannot be read, or it holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise PrefkitError(f"there is no file of SyncNet weights at {path}; give the path of syncnet_v2.model")
    config, state = read_weights(path) if path.suffix == ".safetensors" else ({}, _read_pickle(path))
    model = SyncNet(SyncNetConfig(**config))
    lacking = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")} - set(state)
    unknown = set(state) - set(model.state_dict())
    if lacking or unknown:
        raise PrefkitError(
            f"{path} holds another network: {len(lacking)} tensors of SyncNet are missing and {len(unknown)} are "
            "unknown; give the public syncnet_v2.model"
        )
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    except RuntimeError as error:
        raise PrefkitError(
            f"{path} has SyncNet's names but other sizes ({str(error).splitlines()[-1].strip()})"
        ) from None
    return model.eval()


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PrefkitError(
            f"{path} cannot be read as a state dict ({first}); download syncnet_v2.model again"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise PrefkitError(f"{path} holds {type(state).__name__}, expected a state dict; give syncnet_v2.model")
    return state
