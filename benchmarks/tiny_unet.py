"""A TMM UNet of the tiny model's size, for studies that want both backbones: made here, not shipped.

    python benchmarks/tiny_unet.py        (about 40 minutes of one core)

It is trained as the tiny model is (trainers/pretraining.py), on the same portraits and features, with the
same imperfections. Stops and resumes where it was; the weights end in pretraining/unet/average.
"""

from pathlib import Path

import torch

from prefkit.backbones.audio_features import CHANNELS
from prefkit.backbones.autoencoder import PatchAutoencoder
from prefkit.backbones.contract import Conditioning
from prefkit.backbones.tiny import SHIPPED, TinyBackbone
from prefkit.backbones.unet import PortraitUNetModel
from trainers.pretraining import Recipe, prepare_data, pretrain

FOLDER = Path("pretraining")
RECIPE = Recipe(steps=3_000, learning_rate=1e-3, schedule=((0, 0.0), (300, 1.0), (1_500, 0.8), (3_000, 0.0)), ema=0.998)


class TinyUNetBackbone(TinyBackbone):
    """`TinyBackbone` around a UNet, whose output too is read as clean latents."""

    name = "tiny-unet"

    def _clean(self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return self.model(
            hidden_states=noisy,
            timestep=timesteps,
            reference_latents=conditioning["reference"],
            skeleton_latents=conditioning["skeleton"],
            audio_embeds=conditioning["speech"],
        ).sample


def build_unet(autoencoder: PatchAutoencoder) -> TinyUNetBackbone:
    """3.5 M parameters at two resolutions, untrained."""
    channels = autoencoder.config.latent_channels
    model = PortraitUNetModel(
        in_channels=channels, reference_channels=channels, skeleton_channels=channels,
        block_out_channels=(48, 96), layers_per_block=1, attention_levels=(True, True), num_attention_heads=4,
        norm_num_groups=8, cross_attention_dim=64, text_dim=16, temporal_factor=4,
        audio_window=5, audio_blocks=1, audio_channels=CHANNELS, audio_hidden_dim=128, audio_context_tokens=2,
    )  # fmt: skip
    return TinyUNetBackbone(model, autoencoder)


def trained_unet() -> TinyUNetBackbone:
    """The trained one.

    Raises:
        SystemExit: it was not trained here yet.
    """
    folder = FOLDER / "unet" / "average"
    if not (folder / "finished").exists():
        raise SystemExit(f"{folder} holds no finished weights; make them with 'python benchmarks/tiny_unet.py'")
    return TinyUNetBackbone(
        PortraitUNetModel.from_pretrained(folder), PatchAutoencoder.from_pretrained(SHIPPED / "autoencoder")
    )


def main() -> None:
    """Trains it, or goes on."""
    data, autoencoder = prepare_data(FOLDER, RECIPE, workers=2)
    progress = pretrain(FOLDER / "unet", RECIPE, data, autoencoder, build_unet)
    (FOLDER / "unet" / "average" / "finished").write_text(f"{progress.step} steps, {progress.seconds:.0f} s\n")


if __name__ == "__main__":
    main()
