"""Audio encoders: speech to features of every video frame."""
