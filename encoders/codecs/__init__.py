"""Latent codecs: frames to latents and back."""
