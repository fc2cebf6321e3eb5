"""Stage two: ETHD, driven by a trained V-AID."""

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
    """Video diffusion on the codec's latents."""

    name = "ethd"
    config = EthdConfig
    needs = ("audio", "expression", "latent", "boxes", "portraits")
    bfloat16 = True
    videos = True

    def build(self, config: TrainConfig, data: ShardDataModule) -> EthdModule:
        """A new ETHD, driven by ``config.vaid``.

        Raises:
            CheckpointError: when the V-AID is missing, damaged, of another stage or of other encoders than the data.
            ShardError: when the latents are too small for the U-Net's levels.
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
                f"{data.config.root}: latents of side {side} cannot be halved {levels - 1} times, as the {levels} "
                "levels of model.unet ask; prepare the data with another frame_size, or take fewer levels"
            )
        codec = index.encoders["codec"].name
        scale = latent_scale(codec, index.codec_scale, data.latent_statistics)
        if scale.raw_reference and model.prediction != "v":
            raise ConfigError(
                f"model.prediction={model.prediction}: adds to the reference latent, which the codec {codec} gives in "
                "other units than the latents; set model.prediction=v"
            )
        info = EthdInfo(
            model, data.dimensions, index.encoders, index.frame_size, scale, str(file.resolve()), sha256_of(file)
        )
        return EthdModule(info, vaid, config.trainer.max_steps, config.data.batch_size, config.seed)

    def start(self, module: EthdModule) -> None:
        """SVD's weights, where they are given.

        Raises:
            WrongWeights: when ``model.svd`` is not SVD's U-Net.
        """
        if module.config.svd:
            from lightning.pytorch.utilities import rank_zero_only

            from lightning_modules.ethd.svd_weights import load_svd

            load_svd(module.ethd.unet, Path(module.config.svd), rank_zero_only(print))

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """The average of the weights, the speed, and videos of validation clips."""
        from callbacks.ema import WeightAverage
        from callbacks.throughput import Throughput

        average = [WeightAverage(config.model.ema)] if config.model.ema else []
        return [*average, Throughput(), *video_callbacks(config, data, folder)]

    def step_bytes(self, module: EthdModule, config: TrainConfig, ranks: int) -> float:
        """Counted on tensors without data."""
        from training.memory import step_bytes

        return step_bytes(config, module, ranks)


def video_callbacks(config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
    """Samples and evaluations of validation clips, where they are asked for and there are such clips."""
    wanted = config.videos
    if not (data.clips["val"] and (wanted.sample_every or wanted.evaluate_every)):
        return []
    from callbacks.evaluation import Evaluation  # they bring the metrics along, which most runs do without
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
