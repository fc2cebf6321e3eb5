"""Commands that are not part of the library: demonstration, nightly checks, profiling, quality, tables."""

from runtime.threads import share_cores

share_cores()  # here, since the modules of this package import torch first
