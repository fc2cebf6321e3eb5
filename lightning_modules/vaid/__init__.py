"""V-AID: predicts lip and expression latents from speech."""
