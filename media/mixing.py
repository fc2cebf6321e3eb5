"""One channel of speech out of several, chosen by energy and phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 0.5  # seconds in which the loudness of channels is compared
_QUIET = 0.01  # energy below the loudest channel's at which a channel holds nothing: 20 dB
_CENTRE = 0.1  # energy below the loudest channel's at which the centre still holds the speech: 10 dB
_INVERTED = -0.5  # correlation with the loudest channel
_LOWER = 10 ** (-1 / 10)  # ratio of energies that counts as lower: 1 dB
_CANCELLED = 0.01  # energy of a mean over that of the mean of unrelated channels of the same energy
_FRONT = ("FL", "FR")


@dataclass(frozen=True)
class Mix:
    """Speech in one channel.

    Attributes:
        mono: (S,) float32.
        channels: (C, S) float32, the given channels; those that were inverted are turned.
        notes: What was done in addition to taking the mean of all channels, in words.
    """

    mono: np.ndarray
    channels: np.ndarray
    notes: tuple[str, ...] = ()


def mix(channels: np.ndarray, names: Sequence[str], rate: int) -> Mix:
    """Mixes the channels of a recording of speech into one that is as loud as they are.

    1. The channel of low frequencies (LFE) is left out.
    2. Where there are a centre and front channels, as in 5.1, the centre is taken alone: films have the speech there.
       It must be less than 10 dB below the loudest channel.
    3. Channels whose loudest half second is 20 dB below that of the loudest channel, or more, are left out.
    4. A channel whose correlation with the loudest one is below -0.5 is inverted (a miswired cable) and is
       turned; of channels that are equally loud the first counts as the loudest.
    5. The mean of the channels that are left is taken. Where it is more than 1 dB quieter than the loudest channel,
       half second by half second, it is raised to that: speakers in a channel each, or partly cancelled ones.

    A recording to which none of this applies gives the mean of its channels, to the bit.

    Args:
        channels: (C, S) float32, S > 0.
        names: C names of FFmpeg: FL, FR, FC, LFE, ...
        rate: Samples per second.
    """
    count = len(channels)
    if count == 1:
        return Mix(channels[0], channels)
    energy = _energies(channels, max(1, round(_BLOCK * rate)))
    loudest = energy.max(1)
    main = [index for index in range(count) if names[index] not in ("LFE", "LFE2")] or list(range(count))
    notes: list[str] = []
    if loudest[main].max() == 0:
        return Mix(channels.mean(0, dtype=np.float32), channels)
    top = float(loudest[main].max())
    active = [index for index in main if loudest[index] > _QUIET * top]
    centre = names.index("FC") if "FC" in names and set(_FRONT) <= set(names) else None
    if centre is not None and loudest[centre] > _CENTRE * top:
        if len(active) > 1:
            notes.append("its centre channel is taken as the speech")
        active = [centre]
    if len(active) < count and not notes:
        kept = ", ".join(str(index + 1) for index in active)
        notes.append(f"the sound is in channel {kept} of {count}; the others are left out of the speech")
    powers = energy.sum(1)
    reference = next(index for index in main if powers[index] >= _LOWER * powers[main].max())
    products = _products(channels, reference)
    inverted = [
        index
        for index in range(count)
        if index != reference and products[index] < _INVERTED * np.sqrt(powers[index] * powers[reference])
    ]
    if inverted:
        channels = channels.copy()
        channels[inverted] *= -1
        numbers = ", ".join(str(index + 1) for index in inverted)
        notes.append(f"channel {numbers} is inverted against channel {reference + 1}; turned, also in the video")
    mono = channels.mean(0, dtype=np.float32) if len(active) == count else channels[active].mean(0, dtype=np.float32)
    goal = float(energy[main].max(0).sum())
    found = float(_energies(mono[None], max(1, round(_BLOCK * rate))).sum())
    if 0 < found < _LOWER * goal:
        gain = np.float32(np.sqrt(goal / found))
        mono = mono * gain
        notes.append(f"the mean of its channels is raised by {20 * np.log10(gain):.1f} dB, to their loudness")
    return Mix(mono, channels, tuple(notes))


def cancelled(mono_energy: float, energies: np.ndarray) -> bool:
    """Whether the mean of channels is silent because they cancel each other.

    Args:
        mono_energy: Energy of the mean.
        energies: (C,) energies of the channels.
    """
    return len(energies) > 1 and mono_energy < _CANCELLED * float(energies.sum()) / len(energies) ** 2


def _energies(channels: np.ndarray, block: int) -> np.ndarray:
    """(C, B) float64: energy of each channel in each block."""
    starts = range(0, channels.shape[1], block)
    return np.stack([(channels[:, at : at + block].astype(np.float64) ** 2).sum(1) for at in starts], axis=1)


def _products(channels: np.ndarray, reference: int) -> np.ndarray:
    """(C,) float64: scalar product of each channel with one of them."""
    total = np.zeros(len(channels))
    for at in range(0, channels.shape[1], 1 << 16):
        block = channels[:, at : at + (1 << 16)].astype(np.float64)
        total += block @ block[reference]
    return total
