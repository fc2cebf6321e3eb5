"""ETHD: the video diffusion U-Net that turns lip and expression latents into a talking face."""
