"""The paper's tables, figures and user study, and the commands that run published systems."""

from runtime.threads import share_cores

share_cores()  # here, since the modules of this package import torch first
