"""Whether W&B writes to its server or to disk, decided before any work starts."""

from __future__ import annotations

import functools
import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Literal

from configs.errors import ConfigError

if TYPE_CHECKING:
    from configs.loggers import LoggerConfig

Mode = Literal["online", "offline", "disabled"]
PATIENCE = 3.0  # seconds a server may take to answer at all


def wandb_mode(config: LoggerConfig) -> Mode:
    """The mode that ``logger.offline`` gives on this machine.

    ``$WANDB_MODE`` takes precedence. Where neither is set, a machine that does not reach the server writes to disk.

    Raises:
        ConfigError: when the server is wanted and there is no key for it, or it cannot be reached.
    """
    asked = os.environ.get("WANDB_MODE", "")
    if asked == "disabled":
        return "disabled"
    if config.offline or asked in ("offline", "dryrun"):
        return "offline"
    server = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if not reachable(server):
        if config.offline is None and asked != "online":
            return "offline"
        raise ConfigError(
            f"logger=wandb: {server} does not answer from this machine; leave logger.offline and WANDB_MODE out, and "
            "what is logged waits on disk for `wandb sync`"
        )
    if not has_key(server):
        raise ConfigError(
            f"logger=wandb: no key for {server}; run `wandb login` on the login node, or set WANDB_API_KEY, or keep "
            "everything on disk with logger.offline=true"
        )
    return "online"


@functools.cache
def reachable(server: str) -> bool:
    """Whether a server answers at all, through the proxy that the environment names."""
    try:
        urllib.request.urlopen(server, timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def has_key(server: str) -> bool:
    """Whether a key for the server is in the environment or where ``wandb login`` puts it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urllib.parse.urlparse(server).hostname or server
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
