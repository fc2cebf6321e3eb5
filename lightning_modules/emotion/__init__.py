"""Multi-source emotion control (EmotiveTalk §3.5): an image, a label, a text or a video to the expression latent."""
