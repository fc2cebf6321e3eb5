"""Writing one shard: a tar whose bytes depend on its samples alone, under its final name only when it is whole."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from datamodules.schema import SampleEntry, SampleMeta, ShardEntry
from runtime.files import partial_of, sha256_of, take_name


class ShardWriter:
    """Writes samples into ``folder/name``, through a temporary file that is renamed by ``close``.

    Owner, mode and time of every member are fixed, so equal samples give equal bytes. Left by an exception, the
    temporary file is removed and nothing stands under the final name.

    Args:
        folder: where the shard goes; must exist.
        name: file name, e.g. ``hdtf-00003.tar``.

    Raises:
        OSError: when the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.samples: list[SampleEntry] = []
        self._partial = partial_of(self.path)
        self._file = self._partial.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take is still in the buffer
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, meta: SampleMeta, members: Mapping[str, bytes]) -> None:
        """Appends one sample; ``members`` maps member names (``latent.npy``, ...) to their bytes, in writing order."""
        offsets = {}
        for name, data in members.items():
            header = tarfile.TarInfo(f"{meta.key}.{name}")
            header.size, header.mode = len(data), 0o644
            self._tar.addfile(header, io.BytesIO(data))
            # The data starts after the 512-byte header and is padded to whole blocks, so it ends at the tar's offset.
            offsets[name] = (self._tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, len(data))
        self.samples.append(
            SampleEntry(
                key=meta.key,
                shard=self.path.name,
                frames=meta.frames,
                speaker=meta.speaker,
                split=meta.split,
                members=offsets,
                emotion=meta.emotion,
                level=meta.level,
                view=meta.view,
            )
        )

    def close(self) -> ShardEntry | None:
        """Finishes the tar, flushes it to disk and gives it its name; None, and no file, when no sample was added."""
        self._tar.close()
        self._file.close()
        if not self.samples:
            self._partial.unlink()
            self.path.unlink(missing_ok=True)
            return None
        entry = ShardEntry(self.path.name, self._partial.stat().st_size, sha256_of(self._partial), len(self.samples))
        take_name(self._partial, self.path)
        return entry
