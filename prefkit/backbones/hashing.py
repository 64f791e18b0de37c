"""What weights are called in rows."""

import hashlib

import torch


def weights_hash(*models: torch.nn.Module) -> str:
    """16 hex digits over the names and bytes of all weights and buffers that are saved."""
    digest = hashlib.sha256()
    for model in models:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
