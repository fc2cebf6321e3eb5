"""Multi-source emotion control (EmotiveTalk §3.5): expression latents from an image, a label, a text or a video."""
