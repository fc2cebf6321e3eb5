"""Further inputs of the systems of the A+V group: 3DMM files, phonemes, aligned faces."""
