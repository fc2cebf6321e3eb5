"""Stage 2: ETHD, conditioned on a trained V-AID."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.training import EthdConfig, TrainConfig
from training.stages.stage import Stage, device_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from datamodules.datamodule import ShardDataModule
    from lightning_modules.ethd.module import EthdModule


class EthdStage(Stage):
    """Trains the video diffusion model on the codec's latents."""

    name = "ethd"
    config = EthdConfig
    needs = ("audio", "expression", "latent", "boxes", "portraits")
    bfloat16 = True
    videos = True
    accumulates = True

    def build(self, config: TrainConfig, data: ShardDataModule) -> EthdModule:
        """Builds an untrained ETHD that is conditioned on ``config.vaid``.

        Raises:
            CheckpointError: If the V-AID is missing, damaged, of another stage, or of other encoders than the data.
            ShardError: If the side of the latents is not divisible by 2 at every level of the U-Net.
            ConfigError: If ``model.prediction`` does not match the codec.
        """
        from datamodules.schema import ShardError
        from lightning_modules.checkpoints import checkpoint_file
        from lightning_modules.ethd.checkpoint import EthdInfo
        from lightning_modules.ethd.latents import latent_scale
        from lightning_modules.ethd.module import EthdModule
        from lightning_modules.vaid.checkpoint import load_vaid
        from runtime.files import sha256_of

        model: EthdConfig = config.model
        index, file = data.index, checkpoint_file(str(config.vaid))
        vaid = load_vaid(file, index.encoders)
        levels, side = len(model.unet.channels), data.dimensions.latent_size
        if side % 2 ** (levels - 1):
            raise ShardError(
                f"{data.config.root}: latents of side {side} cannot be halved {levels - 1} times for the {levels} "
                "levels of model.unet; prepare the data with another frame_size, or use fewer levels"
            )
        codec = index.encoders["codec"].name
        scale = latent_scale(codec, index.codec_scale, data.latent_statistics)
        if scale.raw_reference and model.prediction != "v":
            raise ConfigError(
                f"model.prediction={model.prediction}: not possible with codec {codec}, whose reference latent has "
                "another scale than the latents; set model.prediction=v"
            )
        info = EthdInfo(
            model, data.dimensions, index.encoders, index.frame_size, scale, str(file.resolve()), sha256_of(file)
        )
        return EthdModule(info, vaid, config.trainer.max_steps, config.data.batch_size, config.seed)

    def start(self, module: EthdModule) -> None:
        """Loads the weights of SVD from ``model.svd``, if set.

        Raises:
            WrongWeights: If ``model.svd`` is not a U-Net of SVD.
        """
        if module.config.svd:
            from lightning.pytorch.utilities import rank_zero_only

            from lightning_modules.ethd.svd_weights import load_svd

            load_svd(module.ethd.unet, Path(module.config.svd), rank_zero_only(print))

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """EMA of the weights, lengths of trained windows, training speed, and videos of validation clips."""
        from callbacks.ema import WeightAverage
        from callbacks.throughput import Throughput
        from callbacks.trained_windows import TrainedWindows

        average = [WeightAverage(config.model.ema)] if config.model.ema else []
        return [*average, TrainedWindows(), Throughput(), *video_callbacks(config, data, folder)]

    def step_bytes(self, module: EthdModule, config: TrainConfig, ranks: int) -> float:
        """See ``training.memory.step_bytes``."""
        from training.memory import step_bytes

        return step_bytes(config, module, ranks)


def video_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
    """Callbacks for sample videos and evaluations, if configured and there are validation clips."""
    wanted = config.videos
    if not (data.clips["val"] and (wanted.sample_every or wanted.evaluate_every)):
        return []
    from callbacks.evaluation import Evaluation  # late: imports the metrics, which most runs do not need
    from callbacks.sample_videos import SampleVideos
    from callbacks.validation_videos import VideoMaker
    from encoders.factory import build_as

    codec = build_as("codec", data.index.encoders["codec"], device_of(config))
    callbacks: list[Callback] = []
    if wanted.sample_every:
        callbacks.append(
            SampleVideos(folder, VideoMaker(codec, wanted.sample_clips, wanted.frames), wanted.sample_every)
        )
    if wanted.evaluate_every:
        parts = {name: getattr(wanted, name) for name in ("metrics", "fid", "fvd", "sync", "efid")}
        evaluation = EvaluateConfig(generated="", reference="", output="", protocol="emotivetalk", bootstrap=0, **parts)
        maker = VideoMaker(codec, wanted.evaluate_clips, wanted.frames)
        callbacks.append(Evaluation(folder, maker, wanted.evaluate_every, evaluation))
    return callbacks
