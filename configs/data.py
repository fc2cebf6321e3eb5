"""Schema of a data module."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import at_least, choice, literal, positive, registered
from configs.registries import DATASETS

# Members of a sample; data.fields selects those of a batch.
FIELDS = ("audio", "lip", "expression", "latent", "boxes", "portraits", "speech", "factors", "video")


@dataclass
class DataConfig:
    """Data module over prepared shards.

    Attributes:
        name: hdtf, mead, synthetic, folder, mixture, or the dotted path of your own ``Dataset``. A ``ShardDataModule``
            without a name accepts any dataset.
        root: Folder or URL (``pipe:``, ``s3://``, ``https://``) of the shards.
        roots: Name -> folder or URL, for a mixture.
        weights: Name -> whole number, for a mixture: of every sum(weights) samples, so many come from this dataset.
            Empty for shares by ``mix``.
        mix: Share of a dataset in a mixture without weights: in proportion to its number of ``clips``, so that every
            clip is drawn once per pass; or of ``frames``, so that every second of video is drawn equally often.
        fields: Members of each sample, e.g. [audio, lip, expression]. ``video`` is available if prepare.py's
            ``store_video`` kept it: for val and test by default, for all splits with ``store_video=all``.
        audio: Source of the audio features: ``stored`` in the shards, or ``encoded`` from the sound of the whole clip
            by the frozen encoder of the shards, on the device of the training.
        audio_model: Folder of the audio encoder, for ``encoded``, if the data was prepared with your own.
        window: Frames of a training window.
        pad: true pads shorter clips and masks the padding (V-AID); false trains them at their own length (ETHD).
        reference: Source of x_ref of a training window: its own ``clip``, as in the paper, or any clip of the
            ``speaker``, so that the emotion of x_ref can differ from the emotion to generate.
        pass_by: What a pass over the data consists of: one window of each of the ``clips``, or as many windows of a
            clip as its ``frames`` fill, so that long clips weigh more.
        min_frames: Minimum length of a clip, frames. Shorter clips are left out.
        batch_size: Global batch size over all ranks.
        micro_batch: Clips of one forward pass, M. Ranks share the S / M micro-batches of a global batch of S clips, and
            accumulate the gradients of theirs. Without padding, a window is as long as the shortest clip of its
            micro-batch, and clips of similar length are drawn together. Null passes all clips of a rank at once;
            without padding, all windows of a global batch are then as long as its shortest clip.
        steps_per_epoch: Steps of a virtual epoch.
        workers: Loader processes per rank.
        split: ``stored`` for the split stored in the shards, or the name of a committed split.
        stage_to: Node-local folder to which shards are copied before they are read.
        stage_gib: Maximum size of these copies, GiB.
        seed: Seed of the training order.
    """

    name: str = registered(DATASETS, also=("mixture",))
    root: str | None = literal(None)
    roots: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = at_least({}, 1, "; leave a root out to draw nothing from it")
    mix: str = choice("clips", "clips", "frames")
    fields: list[str] = choice(["audio", "lip", "expression"], *FIELDS)
    audio: str = choice("stored", "stored", "encoded")
    audio_model: str | None = literal(None)
    window: int = positive(120)
    pad: bool = True
    reference: str = choice("clip", "clip", "speaker")
    pass_by: str = choice("clips", "clips", "frames")
    min_frames: int = positive(24)
    batch_size: int = positive(8)
    micro_batch: int | None = positive(None)
    steps_per_epoch: int = positive(1000)
    workers: int = at_least(2, 0)
    split: str = "stored"
    stage_to: str | None = literal(None)
    stage_gib: float = positive(64.0)
    seed: int = at_least(0, 0)

    @property
    def micro_batch_count(self) -> int:
        """Micro-batches of a global batch; 0 if each rank passes its clips at once."""
        return self.batch_size // self.micro_batch if self.micro_batch else 0
