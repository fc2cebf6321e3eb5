"""Every pretrained network the project uses: its files, where they are published, how to check them, and their licence.

Hashes are sha256 where the publisher's is known, else the id git gives the file's content (``git hash-object FILE``);
a file that has neither is pinned by the revision in its address alone. ``weights.py`` finds and fetches what is listed.
"""

from __future__ import annotations

from dataclasses import dataclass

GITHUB = "https://raw.githubusercontent.com"
TAESD = f"{GITHUB}/madebyollin/taesd/5cccb12dc72074a4be35680c3b108548a7c69978"
TDDFA = f"{GITHUB}/cleardusk/3DDFA_V2/1b6c67601abffc1e9f248b291708aef0e43b55ae"
MTCNN = f"{GITHUB}/timesler/facenet-pytorch/787da06156087cd6b616fe6608213722bddc30cd/data"
LATENTSYNC = "https://huggingface.co/ByteDance/LatentSync-1.6/resolve/main/auxiliary"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data"
SVD_LICENCE = "Stability AI Community License (stable-video-diffusion-community)"


@dataclass(frozen=True)
class WeightFile:
    """One file of a network.

    Attributes:
        path: name relative to the weights folder, or to the network's own folder where it has one.
        urls: addresses, tried in order; those of hub files are made from the repository and revision.
        size: bytes.
        sha256: hash of the content, hex.
        git_blob: id of the content as a git blob, hex sha1.
    """

    path: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def hash_text(self) -> str:
        """The published hash in words, and how to compute it."""
        if self.sha256:
            return f"sha256 {self.sha256}"
        if self.git_blob:
            return f"git blob id {self.git_blob} (git hash-object FILE)"
        return "no hash is published"


@dataclass(frozen=True)
class Weights:
    """One pretrained network.

    Attributes:
        name: how ``locate`` knows it.
        purpose: what the project uses it for.
        licence: of the weights, not of the code that trained them.
        files: what it consists of.
        presets: which presets need it; ``metrics`` is the set that evaluation needs.
        repository: Hugging Face repository of a hub model, at ``revision``.
        subfolder: folder inside that repository.
        folder: the network's own folder under a weights folder; ``locate`` then gives the folder, else the file.
        manual: what a person has to do where a program cannot fetch it.
    """

    name: str
    purpose: str
    licence: str
    files: tuple[WeightFile, ...]
    presets: tuple[str, ...] = ()
    repository: str | None = None
    revision: str | None = None
    subfolder: str = ""
    folder: str = ""
    manual: str | None = None

    def hub_path(self, file: WeightFile) -> str:
        """The file's path inside its Hugging Face repository."""
        return f"{self.subfolder}/{file.path}" if self.subfolder else file.path


SOURCES: tuple[Weights, ...] = (
    Weights(
        name="face_landmarker",
        purpose="MediaPipe FaceLandmarker: 478 landmarks and 52 blendshapes",
        licence="Apache-2.0",
        presets=("small", "paper"),
        files=(
            WeightFile(
                "face_landmarker.task",
                (
                    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
                    "face_landmarker.task",
                ),
                3_758_596,
                "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            ),
        ),
    ),
    Weights(
        name="taef2_encoder",
        purpose="TAEF2 tiny autoencoder, frames to latents",
        licence="MIT",
        presets=("small",),
        files=(
            WeightFile(
                "taef2_encoder.pth",
                (f"{TAESD}/taef2_encoder.pth",),
                2_704_692,
                "10a4e1021e89d7551eaf161352da8dbd0b1aa83872ae28b150c1df1ce2f147b6",
            ),
        ),
    ),
    Weights(
        name="taef2_decoder",
        purpose="TAEF2 tiny autoencoder, latents to frames",
        licence="MIT",
        presets=("small",),
        files=(
            WeightFile(
                "taef2_decoder.pth",
                (f"{TAESD}/taef2_decoder.pth",),
                2_704_756,
                "0a44a31e1ae59eb9dbf9359d24942fd3ef5928162c1800d97a28c61d51be0ab5",
            ),
        ),
    ),
    Weights(
        name="wav2vec2-base-960h",
        purpose="wav2vec 2.0, 12 layers of speech features",
        licence="Apache-2.0",
        presets=("paper",),
        repository="facebook/wav2vec2-base-960h",
        revision="22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
        folder="wav2vec2-base-960h",
        files=(
            WeightFile("config.json"),
            WeightFile(
                "model.safetensors",
                size=377_607_901,
                sha256="8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a",
            ),
        ),
    ),
    Weights(
        name="svd-vae",
        purpose="Stable Video Diffusion's autoencoder with a temporal decoder: the latent codec of preset paper",
        licence=SVD_LICENCE,
        presets=("paper",),
        repository="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        subfolder="vae",
        folder="stable-video-diffusion-img2vid-xt/vae",
        files=(
            WeightFile("config.json", size=607, git_blob="7c27c35b4e6ab0e705d46306f60d36839b680c03"),
            WeightFile(
                "diffusion_pytorch_model.safetensors",
                size=391_017_740,
                sha256="5d92aa595a53d9da9faf594f09910ee869d5d567c8bb0362d5095673c69997d6",
            ),
        ),
    ),
    Weights(
        name="svd-unet",
        purpose="Stable Video Diffusion's U-Net: what ETHD training starts from",
        licence=SVD_LICENCE,
        presets=("paper",),
        repository="stabilityai/stable-video-diffusion-img2vid-xt",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        subfolder="unet",
        folder="stable-video-diffusion-img2vid-xt/unet",
        files=(
            WeightFile("config.json", size=984, git_blob="2a30c09f6764459c04d7dc10bf5b4bbf1e5ebc73"),
            WeightFile(
                "diffusion_pytorch_model.safetensors",
                size=6_098_682_464,
                sha256="7783d82729af04f26ded4641a5952617fe331fc46add332fb9e47674fecc6ad7",
            ),
        ),
    ),
    Weights(
        name="clip-vit-large-patch14",
        purpose="CLIP ViT-L/14 text encoder: emotion by text",
        licence="MIT",
        presets=("paper",),
        repository="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        folder="clip-vit-large-patch14",
        files=(
            WeightFile("config.json"),
            WeightFile("tokenizer.json"),
            WeightFile("tokenizer_config.json"),
            WeightFile("special_tokens_map.json"),
            WeightFile("vocab.json"),
            WeightFile("merges.txt"),
            WeightFile(
                "model.safetensors",
                size=1_710_540_580,
                sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            ),
        ),
    ),
    Weights(
        name="pdfgc",
        purpose="PD-FGC motion encoder: mouth 512, emotion 30 and eye 6 latents",
        licence="CC-BY-4.0",
        presets=("paper",),
        files=(WeightFile("motion_model.pth"),),
        manual=(
            "open https://drive.google.com/file/d/1UtFpTnRvUNGNSsr1LDU6W5nNtzacIB9J (checkpoints.tar, linked from "
            "github.com/Dorniwang/PD-FGC-inference), unpack it, and copy checkpoints/motion_model.pth"
        ),
    ),
    Weights(
        name="3ddfa_v2",
        purpose="3DDFA_V2 MobileNet 0.5: 62 face parameters; a stand-in for E-FID that never carries its name",
        licence="MIT",
        files=(
            WeightFile(
                "mb05_120x120.pth",
                (f"{TDDFA}/weights/mb05_120x120.pth",),
                3_752_462,
                "f93ed7f1c4c0382b16d7c18480a5f67473c1917a47475a9823924f38aeb27280",
            ),
        ),
    ),
    Weights(
        name="3ddfa_v2_statistics",
        purpose="3DDFA_V2: mean and standard deviation of the 62 parameters",
        licence="MIT",
        files=(
            WeightFile(
                "mb05_param_mean_std.npz",
                size=996,
                sha256="0d388ea967886499f2f9c1073c44312ae0b4f73817a17ea83ee353f4ece0c52e",
            ),
        ),
        manual=(
            f'download {TDDFA}/configs/param_mean_std_62d_120x120.pkl and convert it: python -c "import numpy, pickle; '
            "numpy.savez('mb05_param_mean_std.npz', **pickle.load(open('param_mean_std_62d_120x120.pkl', 'rb')))\""
        ),
    ),
    Weights(
        name="syncnet",
        purpose="SyncNet: Sync-C and Sync-D",
        licence="none stated by its authors (research)",
        presets=("metrics",),
        files=(
            WeightFile(
                "syncnet_v2.model",
                (
                    f"{OXFORD}/syncnet_v2.model",
                    f"{LATENTSYNC}/syncnet_v2.model",
                    "https://huggingface.co/lithiumice/syncnet/resolve/main/syncnet_v2.model",
                ),
                54_573_114,
                "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
                "d714bbf3b30324ced69e3815fc41ae6dc519303c",
            ),
        ),
    ),
    Weights(
        name="s3fd",
        purpose="S3FD face detector of the SyncNet pipeline",
        licence="none stated by its authors (research)",
        presets=("metrics",),
        files=(
            WeightFile(
                "sfd_face.pth",
                (
                    f"{OXFORD}/sfd_face.pth",
                    f"{LATENTSYNC}/sfd_face.pth",
                    "https://huggingface.co/lithiumice/syncnet/resolve/main/sfd_face.pth",
                ),
                89_844_381,
                "d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
                "2bdf053a994371d57f6f535cb2682dc3e2990e89",
            ),
        ),
    ),
    Weights(
        name="inception_fid",
        purpose="Inception v3 of pytorch-fid: FID",
        licence="Apache-2.0",
        presets=("metrics",),
        files=(
            WeightFile(
                "pt_inception-2015-12-05-6726825d.pth",
                (
                    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                    "pt_inception-2015-12-05-6726825d.pth",
                    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                    "weights-inception-2015-12-05-6726825d.pth",
                ),
                95_628_359,
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        ),
    ),
    Weights(
        name="i3d_stylegan_v",
        purpose="I3D as TorchScript, used by StyleGAN-V: FVD",
        licence="Apache-2.0",
        presets=("metrics",),
        files=(
            WeightFile(
                "i3d_torchscript.pt",
                (
                    "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
                    f"{LATENTSYNC}/i3d_torchscript.pt",
                ),
                51_235_320,
                "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
                "93daef59c7ae0e9e8f76225521407e60cbafa6aa",
            ),
        ),
    ),
    Weights(
        name="i3d_videogpt",
        purpose="I3D of VideoGPT and TATS: FVD in their flavour",
        licence="Apache-2.0",
        files=(
            WeightFile(
                "i3d_pretrained_400.pt",
                (
                    "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
                    "https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/"
                    "810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
                ),
                git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
            ),
        ),
    ),
    Weights(
        name="i3d_tfhub",
        purpose="I3D of the first FVD paper, TensorFlow variables",
        licence="Apache-2.0",
        files=(
            WeightFile(
                "i3d-kinetics-400/variables.data-00000-of-00001",
                git_blob="fa7df95674dbf3579e7fccd954e51e706b4734c1",
            ),
        ),
        manual=(
            "download https://tfhub.dev/deepmind/i3d-kinetics-400/1?tf-hub-format=compressed, unpack it, and copy "
            "variables/variables.data-00000-of-00001"
        ),
    ),
    Weights(
        name="i3d_rgb_imagenet",
        purpose="I3D as DeepMind released it: NOT the weights of FVD, listed so that a mix-up is named",
        licence="Apache-2.0",
        files=(
            WeightFile(
                "model_rgb.pth",
                ("https://github.com/hassony2/kinetics_i3d_pytorch/raw/master/model/model_rgb.pth",),
                git_blob="2a7c22e23e6c74f50a0166ce61110bccd2ab48bb",
            ),
        ),
    ),
    Weights(
        name="deep3dfacerecon",
        purpose="Deep3DFaceRecon, original weights: E-FID",
        licence="MIT code; the weights derive from BFM09 (non-commercial)",
        presets=("metrics",),
        files=(WeightFile("deep3dfacerecon/epoch_20.pth"),),
        manual="download epoch_20.pth from https://drive.google.com/drive/folders/1liaIxn9smpudjjqMaWWRpP0mXRW_qRPP",
    ),
    Weights(
        name="deep3dfacerecon_20230425",
        purpose="Deep3DFaceRecon, closed-eye update of 2023-04-25: other numbers than the original",
        licence="MIT code; the weights derive from BFM09 (non-commercial)",
        files=(WeightFile("deep3dfacerecon_20230425/epoch_20.pth"),),
        manual="download epoch_20.pth from https://drive.google.com/drive/folders/1grs8J4vu7gOhEClyKjWU-SNxfonGue5F",
    ),
    Weights(
        name="deep3dfacerecon_template",
        purpose="five-point 3-D face to which Deep3DFaceRecon aligns its input: E-FID",
        licence="MIT",
        presets=("metrics",),
        files=(
            WeightFile(
                "similarity_Lm3D_all.mat",
                (f"{GITHUB}/sicxu/Deep3DFaceRecon_pytorch/master/BFM/similarity_Lm3D_all.mat",),
                994,
                "53b83ce6e35c50ddc3e97603650cef4970320c157e75c241c844f29c1dcba65a",
            ),
        ),
    ),
    Weights(
        name="mtcnn_pnet",
        purpose="MTCNN, first stage: the five points of E-FID",
        licence="MIT",
        presets=("metrics",),
        files=(
            WeightFile(
                "pnet.pt",
                (f"{MTCNN}/pnet.pt",),
                28_570,
                "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
            ),
        ),
    ),
    Weights(
        name="mtcnn_rnet",
        purpose="MTCNN, second stage: the five points of E-FID",
        licence="MIT",
        presets=("metrics",),
        files=(
            WeightFile(
                "rnet.pt",
                (f"{MTCNN}/rnet.pt",),
                403_147,
                "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
            ),
        ),
    ),
    Weights(
        name="mtcnn_onet",
        purpose="MTCNN, third stage: the five points of E-FID",
        licence="MIT",
        presets=("metrics",),
        files=(
            WeightFile(
                "onet.pt",
                (f"{MTCNN}/onet.pt",),
                1_559_269,
                "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
            ),
        ),
    ),
)
