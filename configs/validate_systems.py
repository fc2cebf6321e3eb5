"""Rules of the configuration of ``benchmark.run_system`` that no single field can express."""

from __future__ import annotations

from pathlib import Path

from configs.errors import ConfigError
from configs.rules import one_of, parse_part, positive
from configs.systems import RunSystemConfig


def validate_run_system(config: RunSystemConfig) -> None:
    """Checks the configuration of ``python -m benchmark.run_system`` as a whole.

    What is wrong with a system on this machine is not found here: it becomes the reason of each of its clips.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    if not Path(config.cases).is_file():
        raise ConfigError(f"cases={config.cases}: no such file; expected a .csv with columns clip, portrait, speech")
    if Path(config.output).is_file():
        raise ConfigError(f"output={config.output}: is a file; expected the name of a folder")
    parse_part(config.part)
    one_of("device", config.device, ("cuda", "cpu"))
    one_of("landmarks", config.landmarks, ("mediapipe", "sidecar"))
    positive("workers", config.workers)
    positive("clip_timeout", config.clip_timeout)
    if config.panel is not None and (len(config.panel) != 4 or min(config.panel[:2]) < 0 or min(config.panel[2:]) < 1):
        raise ConfigError(f"panel={config.panel}: expected [x,y,width,height] in pixels, e.g. panel=[512,0,512,512]")
    if config.offset < 0:
        raise ConfigError(f"offset={config.offset}: expected a number of frames from 0")
    if config.size is not None and (config.system != "ground_truth" or config.size < 16 or config.size % 2):
        raise ConfigError(f"size={config.size}: expected an even number from 16, for system=ground_truth alone")
    own = config.system == "folder" or config.system.endswith((".yaml", ".yml"))
    if not own and (config.videos or config.title or config.panel or config.offset):
        raise ConfigError("videos, title, panel and offset describe system=folder; the others have files of their own")
