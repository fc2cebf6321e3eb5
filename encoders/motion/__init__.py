"""Motion encoders: face crops to a lip latent and an expression latent."""
