"""The generation pipeline: portrait, speech and emotion to video. generate.py, the web page and benchmark use it."""

from runtime.registry import exports

__getattr__, __all__ = exports(
    __name__, {"EmotiveTalkPipeline": "generation.pipeline", "VideoCase": "generation.batch"}
)
