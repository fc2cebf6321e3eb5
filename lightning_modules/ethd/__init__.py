"""ETHD: the video diffusion U-Net that renders a talking face from lip and expression latents."""
