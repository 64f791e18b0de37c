"""Diffusion-DPO: config, losses, data and the trainer. `trainers.train.train_dpo` is the stage."""
