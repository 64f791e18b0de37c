"""Tiny random components of the full-size backbones, made here: nothing is downloaded."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan, DDIMScheduler, FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from prefkit.backbones.hallo4_backbone import Hallo4Backbone
from prefkit.backbones.pipeline import PortraitPipeline, flow_scheduler
from prefkit.backbones.speech import VideoRateWav2Vec2Model
from prefkit.backbones.transformer import PortraitWanTransformer3DModel
from prefkit.backbones.unet import PortraitUNetModel
from prefkit.backbones.unet_backbone import UNetBackbone

LATENTS = 4


def tiny_speech_encoder() -> VideoRateWav2Vec2Model:
    torch.manual_seed(1)
    return VideoRateWav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8, 8, 8),
            conv_kernel=(10, 8, 4),
            conv_stride=(10, 8, 4),
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
    ).eval()


def tiny_vae() -> AutoencoderKLWan:
    torch.manual_seed(2)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENTS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1 * channel for channel in range(LATENTS)],
        latents_std=[1.0 + 0.1 * channel for channel in range(LATENTS)],
    )
    return vae.eval()


def tiny_text() -> tuple[PreTrainedTokenizerFast, UMT5EncoderModel]:
    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "a", "person", "talks"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    torch.manual_seed(3)
    config = UMT5Config(vocab_size=6, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return fast, UMT5EncoderModel(config).eval()


def tiny_transformer(**changes) -> PortraitWanTransformer3DModel:
    torch.manual_seed(0)
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "text_dim": 8,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "vace_layers": (0, 1),
        "vace_in_channels": 2 * LATENTS + 64,
        "skeleton_channels": LATENTS,
        "audio_window": 5,
        "audio_blocks": 2,
        "audio_channels": 8,
        "audio_hidden_dim": 16,
        "audio_context_tokens": 2,
    }
    model = PortraitWanTransformer3DModel(**sizes | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def pipeline() -> PortraitPipeline:
    """Random weights everywhere; windows of 9 frames of 32 × 48 pixels."""
    tokenizer, text_encoder = tiny_text()
    made = PortraitPipeline(
        transformer=tiny_transformer(),
        vae=tiny_vae(),
        speech_encoder=tiny_speech_encoder(),
        feature_extractor=Wav2Vec2FeatureExtractor(),
        scheduler=flow_scheduler(),
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        num_frames=9,
        height=32,
        width=48,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def condition() -> dict:
    """A portrait of 64 × 96 pixels, and 9 frames of skeleton with their speech."""
    rng = np.random.default_rng(0)
    return {
        "portrait": rng.integers(0, 256, (64, 96, 3), np.uint8),
        "audio": rng.integers(-3000, 3000, round(9 / 25 * 16000), np.int16),
        "skeleton": rng.integers(0, 256, (9, 64, 96, 3), np.uint8),
    }


def make_unet(pipeline, video: bool) -> UNetBackbone:
    torch.manual_seed(4)
    image_vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    model = PortraitUNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        attention_levels=(True, False),
        num_attention_heads=2,
        norm_num_groups=4,
        cross_attention_dim=8,
        text_dim=8,
        audio_blocks=2,
        audio_channels=8,
        audio_hidden_dim=8,
        audio_context_tokens=2,
        temporal_factor=4 if video else 1,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0) if video else DDIMScheduler(clip_sample=False)
    return UNetBackbone(
        model,
        pipeline.vae if video else image_vae,
        pipeline.speech_encoder,
        Wav2Vec2FeatureExtractor(),
        scheduler,
        pipeline.tokenizer,
        pipeline.text_encoder,
        frame_size=(32, 48),
        num_frames=9,
        num_inference_steps=2,
    )


@pytest.fixture
def unet(pipeline) -> UNetBackbone:
    """With an autoencoder of videos."""
    return make_unet(pipeline, video=True)


@pytest.fixture(params=["hallo4", "unet, image VAE, noise", "unet, video VAE, velocity"])
def backbone(request, pipeline):
    if request.param == "hallo4":
        return Hallo4Backbone(pipeline, num_inference_steps=2, negative_prompt="a person")
    return make_unet(pipeline, "video" in request.param)
