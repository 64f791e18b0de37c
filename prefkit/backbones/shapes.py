"""One sentence for a tensor of the wrong shape."""

import torch


def check_shape(name: str, tensor: torch.Tensor, expected: tuple[int | str, ...], why: str) -> None:
    """Compares a tensor's shape with what is expected and `why`.

    Raises:
        ValueError: they differ.
    """
    if tuple(tensor.shape) != expected:
        raise ValueError(f"Found {name} of shape {tuple(tensor.shape)}, expected {expected} {why}.")
