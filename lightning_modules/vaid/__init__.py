"""V-AID: lip and expression latents out of one voice."""
