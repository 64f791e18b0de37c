"""Embeddings of pictures by networks that the user names, loaded once a process.

An ONNX file takes float32 [1, 3, S, S]; a folder (or safetensors repository) of transformers is loaded with
`AutoModel`. Nothing here runs code out of a weight file.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError

Embedder = Callable[[np.ndarray], np.ndarray]

ARCFACE_SIZE = 112
DINO_SIZE = 224
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@functools.cache
def face_embedder(path: Path) -> Embedder:
    """ArcFace: uint8 [112, 112, 3] RGB -> float64 [D]. It reads RGB in -1 … 1.

    Raises:
        PrefkitError: the file is no ONNX network of one picture and one vector.
    """
    run = _onnx(path, ARCFACE_SIZE)
    return lambda face: run((face.astype(np.float32) - 127.5) / 127.5)


@functools.cache
def picture_embedder(path: Path) -> Embedder:
    """DINO: uint8 [H, W, 3] RGB of any size -> float64 [D].

    It reads the middle square at 224 px, normalised as ImageNet is.

    Raises:
        PrefkitError: the path is neither an ONNX network nor a folder of transformers.
    """
    run = _onnx(path, DINO_SIZE) if path.is_file() else _transformers(path)

    def embed(frame: np.ndarray) -> np.ndarray:
        picture = middle_square(frame, DINO_SIZE) / 255.0
        return run(((picture - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32))

    return embed


def middle_square(frame: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a frame, scaled to `size`: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    import cv2

    side = min(frame.shape[:2])
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return cv2.resize(frame[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


@functools.cache
def onnx_runner(path: Path, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """An ONNX network of one float32 input of this shape; what is returned gives its first output as float64 [D].

    Raises:
        PrefkitError: the file is no ONNX network, or it reads another shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of errors share no base
        raise PrefkitError(f"{path} cannot be read as ONNX ({str(error).splitlines()[0]}); give an ONNX file") from None
    name, reads = session.get_inputs()[0].name, session.get_inputs()[0].shape
    if len(reads) != len(shape) or any(
        isinstance(side, int) and side != wanted for side, wanted in zip(reads, shape, strict=True)
    ):
        raise PrefkitError(f"{path} reads {reads}; expected a network that reads {list(shape)}")

    def run(values: np.ndarray) -> np.ndarray:
        output = session.run(None, {name: np.ascontiguousarray(values, np.float32)})[0]
        # of a sequence of tokens the first is the picture's
        return _vector(output[:, 0] if output.ndim == 3 else output)

    return run


def _onnx(path: Path, size: int) -> Embedder:
    run = onnx_runner(path, (1, 3, size, size))
    return lambda picture: run(picture.transpose(2, 0, 1)[None])


def _transformers(path: Path) -> Embedder:
    import torch
    from transformers import AutoModel

    try:
        model: Any = AutoModel.from_pretrained(path, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise PrefkitError(f"{path} is no folder of a transformers model ({str(error).splitlines()[0]})") from None

    def run(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return _vector(model(torch.from_numpy(picture.transpose(2, 0, 1)[None])).last_hidden_state[:, 0].numpy())

    return run


def _vector(output: np.ndarray) -> np.ndarray:
    return np.asarray(output, np.float64).ravel()
