"""Portrait, speech and emotion to video: one pipeline behind generate.py, the demo, callbacks and benchmark."""
