"""Stage 2: ETHD, conditioned on a trained V-AID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.models import EthdConfig, UNetConfig
from configs.training import NO_INIT, SVD_INIT, TrainConfig
from configs.training_rules import SVD_PREDICTS_V, VAID_MISSING, weights_are_16_bit
from training.stages.stage import Stage

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from datamodules.clip_windows import Clip
    from datamodules.datamodule import ShardDataModule
    from datamodules.schema import Index
    from encoders.protocols import LatentCodec
    from lightning_modules.ethd.held_vaid import VAIDFile
    from lightning_modules.ethd.initial import TrainedEthd
    from lightning_modules.ethd.module import EthdModule


def codec_of(index: Index, device: str) -> LatentCodec:
    """Builds the codec of shards on a device.

    Raises:
        MissingWeights: If its weights are not found and cannot be downloaded.
        EncoderError: If they are not those that the shards were made with.
    """
    from encoders.factory import build_as

    return cast("LatentCodec", build_as("codec", index.encoders["codec"], device))


def _codec_without_weights(index: Index, device: str) -> LatentCodec:
    """The codec of shards if it has no weights, else a narrow one."""
    from training.narrow_codec import narrow_codec

    return narrow_codec(index) if index.encoders["codec"].weights else codec_of(index, device)


class EthdStage(Stage):
    """Trains the video diffusion model on the codec's latents."""

    name = "ethd"
    config = EthdConfig
    needs = ("audio", "expression", "latent", "boxes", "portraits")
    bfloat16 = True
    videos = True
    compiles = True
    accumulates = True
    starts_from_runs = True
    starts_from_svd = True
    codec_of = staticmethod(codec_of)

    def __init__(self) -> None:
        self._vaid: VAIDFile | None = None
        self._trained: TrainedEthd | None = None
        self._codec: LatentCodec | None = None

    @classmethod
    def narrow(cls, model: EthdConfig) -> EthdConfig:
        """32 channels in every level, and no attention in the finest of many, whose cost would hide all others."""
        attention = list(model.unet.attention)
        if len(attention) > 2:
            attention[0] = False
        levels = len(attention)
        unet = UNetConfig([32] * levels, [1] * levels, attention, layers=1, token_width=8, added_width=8)
        return replace(model, unet=unet, sampling_steps=2, expression_steps=2)

    def open_init(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> tuple[TrainConfig, str]:
        """Finds SVD's weights by their hash, or reads the run of ``init=RUN`` and compares its encoders."""
        from encoders.weights import MissingWeights, find
        from lightning_modules.ethd.initial import trained_ethd
        from lightning_modules.ethd.svd_weights import weight_file
        from runtime.files import sha256_of

        started = replace(config, init=NO_INIT)
        if config.init == SVD_INIT:
            if (unet := find("svd-unet")) is None:
                raise MissingWeights(
                    "init=svd: the weights of SVD are on none of the known paths; run prepare.py task=weights "
                    "preset=paper first; init=none starts from random weights"
                )
            return started, f"svd: {weight_file(unet)} has the published sha256; weights not loaded"
        if unet_folder(config.init):
            file = weight_file(Path(config.init))
            return started, f"{file} (sha256 {sha256_of(file)[:12]}...); weights not loaded"
        trained = trained_ethd(config.init, needs_vaid=config.vaid is None)
        trained.check_encoders(data.index.encoders, f"init={config.init}")
        if trained.vaid is not None:
            started = replace(started, vaid=str(trained.vaid.keep(folder / "init")))
        return started, f"{trained.path}: stage and encoders agree; weights not loaded"

    @classmethod
    def narrow_encoders(cls) -> None:
        """Decodes sample videos with a narrow codec, unless the codec of the shards is one without weights."""
        cls.codec_of = staticmethod(_codec_without_weights)

    def try_encoders(self, config: TrainConfig, data: ShardDataModule) -> Iterator[tuple[str, Callable[[], str]]]:
        """Builds the codec of the shards and decodes one frame with it."""
        from encoders.weight_files import MissingWeights

        def codec() -> str:
            identity = data.index.encoders["codec"]
            try:
                self._codec = codec_of(data.index, "cpu")
            except MissingWeights as error:
                raise MissingWeights(
                    f"{identity.name}: {str(error).split(' (')[0]}; sample videos and generate.py need it: run "
                    "prepare.py task=weights with the preset of the data"
                ) from error
            picture = self._codec.decode(data.whole(_any_clip(data), ("latent",), 1)["latent"][0])
            return f"{identity.name}: built, decodes a latent to {picture.shape[3]} x {picture.shape[2]} px"

        yield "codec", codec

    def use_rehearsed(
        self, folder: Path, data: ShardDataModule, frames: int
    ) -> Iterator[tuple[str, Callable[[], str]]]:
        """Exports the run, and generates a video with the export."""
        import torch

        from callbacks.validation_videos import FIELDS, write_video
        from lightning_modules.ethd.export import export, export_file, load_export
        from lightning_modules.ethd.sampler import Sampler
        from training.narrow_codec import narrow_codec

        def exported() -> str:
            file = export(folder)
            return f"{file} ({file.stat().st_size / 1e6:.1f} MB)"

        def generated() -> str:
            model, clip, path = load_export(export_file(folder)), _any_clip(data), folder / "generated.mp4"
            codec = self._codec or narrow_codec(data.index)
            batch = data.whole(clip, FIELDS, frames)
            video = Sampler(model.ethd, model.info, codec, torch.device("cpu")).render(model.vaid, batch)
            write_video(path, video, batch)
            return f"{path}: {len(video)} frames of {video.shape[2]} px from the export, clip {clip.key}" + (
                "" if self._codec else ", with a narrow codec"
            )

        yield "export", exported
        yield "generate", generated

    def build(self, config: TrainConfig, data: ShardDataModule) -> EthdModule:
        """Builds an untrained ETHD that is conditioned on the V-AID of the run.

        A new run takes ``config.vaid``, or with ``init=RUN`` by default the V-AID of that run. A resumed run takes the
        one it holds. With ``init=RUN`` the latents keep the scaling of that run, in whose units its weights are.

        Raises:
            CheckpointError: If the V-AID, or the run of ``init``, is missing, damaged, of another stage, or of other
                encoders than the data; or if the V-AID is not the one that the resumed run was trained with.
            ShardError: If the side of the latents is not divisible by 2 at every level of the U-Net.
            ConfigError: If ``model.prediction`` does not match the codec.
        """
        from datamodules.schema import ShardError
        from lightning_modules.ethd.checkpoint import EthdInfo
        from lightning_modules.ethd.held_vaid import vaid_file, vaid_of_run
        from lightning_modules.ethd.initial import trained_ethd
        from lightning_modules.ethd.latents import latent_scale
        from lightning_modules.ethd.module import EthdModule
        from training.resume import resume_path, run_folder

        model: EthdConfig = config.model
        index, resume, trained = data.index, resume_path(config, run_folder(config)), None
        if resume is None and not unet_folder(config.init):
            trained = trained_ethd(config.init, needs_vaid=config.vaid is None)
            trained.check_encoders(index.encoders, f"init={config.init}")
            wanted = trained.info.config.prediction
            if wanted != model.prediction:
                raise ConfigError(
                    f"model.prediction={model.prediction}: init={config.init} predicts {wanted}; set "
                    f"model.prediction={wanted}"
                )
        elif config.init != NO_INIT and resume is None and model.prediction != "v":
            raise ConfigError(SVD_PREDICTS_V.format(model.prediction))
        if resume is not None:
            file = vaid_of_run(resume, config.vaid)
        elif trained is not None and trained.vaid is not None:
            file = trained.vaid
        elif config.vaid:
            file = vaid_file(config.vaid)
        else:
            raise ConfigError(VAID_MISSING)
        self._vaid, self._trained = file, trained
        vaid = file.load(index.encoders)
        levels, side = len(model.unet.channels), data.dimensions.latent_size
        if side % 2 ** (levels - 1):
            raise ShardError(
                f"{data.config.root}: latents of side {side} cannot be halved {levels - 1} times for the {levels} "
                "levels of model.unet; prepare the data with another frame_size, or use fewer levels"
            )
        codec = index.encoders["codec"].name
        made = latent_scale(codec, index.codec_scale, data.latent_statistics, model.whitening)
        scale = trained.info.latents if trained else made
        if made.raw_reference and model.whitening != 1:
            raise ConfigError(
                f"model.whitening={model.whitening:g}: latents of codec {codec} are scaled by its constant; set "
                "model.whitening=1"
            )
        if scale.raw_reference and model.prediction != "v":
            raise ConfigError(
                f"model.prediction={model.prediction}: not possible with codec {codec}, whose reference latent has "
                "another scale than the latents; set model.prediction=v"
            )
        info = EthdInfo(model, data.dimensions, index.encoders, index.frame_size, scale, file.recorded, file.sha256)
        module = EthdModule(info, vaid, config.trainer.max_steps, config.data.batch_size, config.seed)
        if config.trainer.compile:
            module.ethd.unet.compile_segments()
        return module

    def start(self, module: EthdModule, config: TrainConfig) -> tuple[Path, str] | None:
        """Loads the weights of SVD or of the run that ``config.init`` names.

        Raises:
            MissingWeights: If ``init=svd`` and the weights of SVD are neither found nor downloaded.
            WrongWeights: If the weights are not the published ones, or ``init`` is not a U-Net of SVD.
            CheckpointError: If the weights of the run have other shapes.
        """
        if config.init == NO_INIT:
            return None
        from lightning_modules.initial import take_weights

        if self._trained is not None:
            path = self._trained.path
            table = take_weights(module.ethd, self._trained.weights, f"init={config.init}").table()
            self._trained = None  # frees the memory of an export
        else:
            from encoders.weights import locate
            from lightning_modules.ethd.svd_weights import load_svd, weight_file

            path = weight_file(locate("svd-unet") if config.init == SVD_INIT else Path(config.init))
            table = load_svd(module.ethd.unet, path.parent).table()
        return path, table

    def keep(self, folder: Path) -> None:
        """Copies the V-AID into the run directory.

        Raises:
            CheckpointError: If it cannot be written.
        """
        assert self._vaid is not None
        self._vaid.keep(folder)

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Weights to export, lengths of trained windows, training speed, and videos of validation clips."""
        from callbacks.ema import Float32Weights, WeightAverage
        from callbacks.throughput import Throughput
        from callbacks.trained_windows import TrainedWindows

        weights: list[Callback] = []
        if config.model.ema:
            weights.append(WeightAverage(config.model.ema))
        elif weights_are_16_bit(config.trainer):
            weights.append(Float32Weights())
        return [*weights, TrainedWindows(), Throughput(), *video_callbacks(config, data, folder, self.codec_of)]

    def step_bytes(self, module: EthdModule, config: TrainConfig, ranks: int) -> float:
        """See ``training.memory.step_bytes``."""
        from training.memory import step_bytes

        return step_bytes(config, module, ranks)


def unet_folder(init: str) -> bool:
    """Whether ``init`` names no trained run, but random weights or those of a U-Net in diffusers' format."""
    return init in (NO_INIT, SVD_INIT) or (Path(init) / "config.json").is_file()


def _any_clip(data: ShardDataModule) -> Clip:
    return (data.clips["val"] or data.clips["train"])[0]


def video_callbacks(
    config: TrainConfig,
    data: ShardDataModule,
    folder: Path,
    build: Callable[[Index, str], LatentCodec] = codec_of,
) -> list[Callback]:
    """Callbacks for sample videos and evaluations, if configured and there are validation clips."""
    wanted = config.videos
    if not (data.clips["val"] and (wanted.sample_every or wanted.evaluate_every)):
        return []
    from callbacks.evaluation import Evaluation  # late: imports the metrics, which most runs do not need
    from callbacks.sample_videos import SampleVideos
    from callbacks.validation_videos import VideoMaker

    codec = cache(partial(build, data.index))  # one for both callbacks
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
