"""What the systems of the A+V group need beside portrait and sound: 3DMM files, phonemes, aligned faces."""
