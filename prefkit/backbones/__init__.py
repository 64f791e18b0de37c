"""Backbones: the TMM transformer, its conditioning, and the tiny model that ships."""
