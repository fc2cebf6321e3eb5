"""Selection of W&B's mode, online or offline, before any work starts."""

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
TIMEOUT = 3.0  # seconds for a server to respond


def wandb_mode(config: LoggerConfig) -> Mode:
    """Mode of W&B for ``logger.offline`` and ``$WANDB_MODE``, which takes precedence.

    If neither is set, the mode is offline on a machine that cannot reach the server.

    Raises:
        ConfigError: If the mode must be online and the server cannot be reached, or there is no key for it.
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
            f"logger=wandb: {server} cannot be reached from this machine; unset logger.offline and WANDB_MODE to log "
            "to disk, and upload later with `wandb sync`"
        )
    if not has_key(server):
        raise ConfigError(
            f"logger=wandb: no key for {server}; run `wandb login` on the login node, set WANDB_API_KEY, or log to "
            "disk with logger.offline=true"
        )
    return "online"


@functools.cache
def reachable(server: str) -> bool:
    """Whether a server responds, with any status; uses the proxy of the environment."""
    try:
        urllib.request.urlopen(server, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def has_key(server: str) -> bool:
    """Whether a key for the server is in the environment or in the file that ``wandb login`` writes."""
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
