"""Portrait, speech and emotion to video: one pipeline behind generate.py, the demo, callbacks and benchmark."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__, {"EmotiveTalkPipeline": "generation.pipeline", "VideoCase": "generation.batch"}
)
