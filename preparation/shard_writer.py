"""Writer of one shard, a tar whose bytes depend only on its samples."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from datamodules.sample_table import SampleEntry
from datamodules.schema import SampleMeta, ShardEntry
from runtime.files import partial_of, sha256_of, take_name


class ShardWriter:
    """Writes samples to a temporary file that ``close`` renames to ``folder/name``.

    Owner, mode and time of every member are fixed, so equal samples give equal bytes. When an exception leaves the
    context, the temporary file is deleted and no shard appears under the final name.

    Args:
        folder: Folder of the shard; must exist.
        name: File name of the shard, e.g. ``hdtf-00003.tar``.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
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
            with contextlib.suppress(OSError):  # closing flushes the buffer, which fails on a full disk
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, meta: SampleMeta, members: Mapping[str, bytes]) -> None:
        """Appends one sample.

        Args:
            meta: Metadata of the sample.
            members: Member name (``latent.npy``, ...) -> bytes, in writing order.
        """
        offsets = {}
        for name, data in members.items():
            header = tarfile.TarInfo(f"{meta.key}.{name}")
            header.size, header.mode = len(data), 0o644
            self._tar.addfile(header, io.BytesIO(data))
            # Data is padded to whole blocks and ends at the tar's offset, so its start is computed backwards.
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
        """Finishes the tar and renames it to its final name.

        Returns:
            Entry of the shard for the index; None, and no file, if no sample was added.
        """
        self._tar.close()
        self._file.close()
        if not self.samples:
            self._partial.unlink()
            self.path.unlink(missing_ok=True)
            return None
        entry = ShardEntry(self.path.name, self._partial.stat().st_size, sha256_of(self._partial), len(self.samples))
        take_name(self._partial, self.path)
        return entry
