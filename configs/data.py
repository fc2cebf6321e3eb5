"""The type of a datamodule's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import at_least, choice, literal, positive, registered
from configs.registries import DATASETS

# Members of a sample, of which a batch has those that data.fields names.
FIELDS = ("audio", "lip", "expression", "latent", "boxes", "portraits", "speech", "factors", "video")


@dataclass
class DataConfig:
    """A datamodule over prepared shards.

    Attributes:
        name: hdtf, mead, synthetic, folder, mixture, or the dotted path of a ``Dataset`` of one's own. A
            ``ShardDataModule`` made without it takes any dataset.
        root: folder or URL (``pipe:``, ``s3://``, ``https://``) of the shards.
        roots: for a mixture, name -> folder or URL.
        weights: for a mixture, name -> whole number: how many of every sum(weights) samples come from it; empty for
            in proportion to the clips.
        fields: members each sample carries, e.g. [audio, lip, expression]; ``video`` is there for evaluation only,
            where prepare.py's ``store_video`` kept it (val and test, unless it was ``all``).
        window: frames of a training window.
        pad: true pads shorter clips with a mask (V-AID); false trains them at their own length (ETHD).
        reference: where x_ref of a training window is taken from: its own ``clip`` (the paper's), or any clip of the
            ``speaker``, which shows the network faces whose emotion is not the one to show.
        min_frames: clips shorter than this are left out.
        batch_size: global batch size S, over all ranks.
        micro_batch: clips of one forward pass, M. Ranks share the S / M micro-batches and accumulate gradients over
            their own. Without padding, a window is as long as the shortest clip of its micro-batch, and clips of
            similar length are drawn together. Null: each rank passes its clips at once, and without padding all windows
            of a batch are as long as its shortest clip.
        steps_per_epoch: length of the virtual epoch.
        workers: loader processes per rank.
        split: ``stored`` for the split written in the shards, or the name of a committed one.
        stage_to: node-local folder shards are copied to before they are read.
        stage_gib: bound on that copy, GiB.
        seed: seed of the training order.
    """

    name: str = registered(DATASETS, also=("mixture",))
    root: str | None = literal(None)
    roots: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = at_least({}, 1, "; leave a root out to draw nothing from it")
    fields: list[str] = choice(["audio", "lip", "expression"], *FIELDS)
    window: int = positive(120)
    pad: bool = True
    reference: str = choice("clip", "clip", "speaker")
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
