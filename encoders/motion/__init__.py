"""Motion encoders: face frames to a lip latent and an expression latent."""
