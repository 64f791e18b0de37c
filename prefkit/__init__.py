"""prefkit: preference data and Diffusion-DPO for portrait-animation models."""

__version__ = "0.1.0"
