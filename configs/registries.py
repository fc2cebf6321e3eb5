"""Registries of what is chosen by name and can be extended from outside: datasets, encoders, stages and metrics.

Each entry is one line; its class holds everything else. ``docs/adding_a_*.md`` show how to add your own.
"""

from __future__ import annotations

from typing import Any

from runtime.registry import Registry

DATASETS: Registry[Any] = Registry(  # preparation/layouts: names and folders -> clips; splits
    "dataset",
    {
        "hdtf": "preparation.layouts.hdtf:HDTF",
        "mead": "preparation.layouts.mead:MEAD",
        "folder": "preparation.layouts.folder:Folder",
        "manifest": "preparation.layouts.manifest:Manifest",
        "synthetic": "preparation.layouts.synthetic:Synthetic",
        "voxceleb2": "preparation.layouts.named:VoxCeleb2",
        "celebv_hq": "preparation.layouts.named:CelebVHQ",
        "talkinghead_1kh": "preparation.layouts.named:TalkingHead1KH",
        "vfhq": "preparation.layouts.named:VFHQ",
    },
)
ENCODERS: dict[str, Registry[Any]] = {  # encoders/protocols.py
    "landmarks": Registry(
        "landmarks",
        {
            "sidecar": "encoders.landmarks.sidecar:SidecarDetector",
            "mediapipe": "encoders.landmarks.mediapipe_detector:MediaPipeDetector",
        },
        "landmark detector",
    ),
    "audio": Registry(
        "audio",
        {"mel": "encoders.audio.mel:MelEncoder", "wav2vec2": "encoders.audio.wav2vec2:Wav2Vec2Encoder"},
        "audio encoder",
    ),
    "motion": Registry(
        "motion",
        {
            "landmarks": "encoders.motion.geometry:LandmarkMotion",
            "blendshapes": "encoders.motion.blendshapes:BlendshapeMotion",
            "pdfgc": "encoders.motion.pdfgc:PDFGCMotion",
        },
        "motion encoder",
    ),
    "codec": Registry(
        "codec",
        {
            "patch": "encoders.codecs.patch:PatchCodec",
            "dct": "encoders.codecs.dct:DCTCodec",
            "taef2": "encoders.codecs.taef2:TAEF2Codec",
            "svd": "encoders.codecs.svd:SVDCodec",
        },
    ),
    "text": Registry(
        "text", {"ngram": "encoders.text.ngram:NgramEncoder", "clip": "encoders.text.clip:CLIPEncoder"}, "text encoder"
    ),
}
STAGES: Registry[Any] = Registry(  # training/stage.py
    "stage",
    {
        "vaid": "training.stages.vaid:VAIDStage",
        "ethd": "training.stages.ethd:EthdStage",
        "emotion": "training.stages.emotion:EmotionStage",
        "proxy": "training.stages.proxy:ProxyStage",
    },
)
METRICS: Registry[Any] = Registry(  # evaluation/metric.py
    "metric",
    {
        "fid": "evaluation.fid_features:FIDFeatures",
        "fvd": "evaluation.fvd_features:FVDFeatures",
        "sync": "evaluation.sync_scores:SyncScorer",
        "efid": "evaluation.efid_features:EFIDFeatures",
        "kid": "evaluation.kid_scores:KernelDistance",
        "aed": "evaluation.coefficient_scores:ExpressionDistance",
        "apd": "evaluation.coefficient_scores:PoseDistance",
        "m_lmd": "evaluation.landmark_scores:MouthDistance",
        "f_lmd": "evaluation.landmark_scores:FaceDistance",
        "lip_stability": "evaluation.landmark_scores:LipStability",
        "psnr": "evaluation.picture_scores:PSNR",
        "ssim": "evaluation.picture_scores:SSIM",
    },
)
LOGGERS: Registry[Any] = Registry(  # in addition to the local files; any Lightning logger, by the name of its class
    "logger",
    {
        "tensorboard": "lightning.pytorch.loggers:TensorBoardLogger",
        "wandb": "lightning.pytorch.loggers:WandbLogger",
    },
    name_of=lambda logger: getattr(logger, "__name__", None),
)
