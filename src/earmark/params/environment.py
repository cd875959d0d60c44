"""Environment variables that say how earmark is run; none of them changes a result."""

import os
import re

from earmark.addresses import without_passwords
from earmark.errors import UserError

FLOW_RUN_ID = "EARMARK_FLOW_RUN_ID"
"""Environment variable with Prefect's id of the flow run; set by the flow."""
SCHEDULER = "EARMARK_SCHEDULER"
"""Environment variable with the address of a Dask scheduler for extraction; if not set, this machine extracts."""

MLFLOW_BROWSER_URL = "MLFLOW_BROWSER_URL"
"""Environment variable with the address of MLflow's server in a browser, where it is not MLFLOW_TRACKING_URI."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
REQUIRE_GPU = "EARMARK_REQUIRE_GPU"
"""Environment variable; with 1, a training fails at once if there is no GPU, where it would use the processor."""


def scheduler() -> str:
    """The address of the Dask scheduler, "" for none.

    Raises:
        UserError: the value is not an address.
    """
    address = os.environ.get(SCHEDULER, "")
    if address and not re.fullmatch(r"tcp://(\[[0-9a-f:]+\]|[^\s:/\[\]]+):\d{1,5}", address):
        raise UserError(f"{SCHEDULER}: {address!r} is not an address; expected tcp://host:port, or an unset variable")
    return address


def requires_gpu() -> bool:
    """Whether a training without a GPU is refused.

    Raises:
        UserError: the value is neither 0 nor 1.
    """
    value = os.environ.get(REQUIRE_GPU, "") or "0"
    if value not in ("0", "1"):
        raise UserError(f"{REQUIRE_GPU}: {value!r} is not 0 or 1; expected 1 to refuse a training without a GPU")
    return value == "1"


def mlflow_server() -> str:
    """The address of MLflow's server, as people open it, without a password; "" if runs are kept in a file."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address.startswith(("http://", "https://")):
        return ""
    return without_passwords(os.environ.get(MLFLOW_BROWSER_URL) or address)


def prefect_server() -> str:
    """The address of Prefect's API, without a password; "" if a temporary server is started."""
    return without_passwords(os.environ.get("PREFECT_API_URL", ""))


def exempt_loopback_from_proxies() -> None:
    """Sends requests to this machine past the proxy of http_proxy and https_proxy: it could not answer them."""
    names = ("no_proxy", "NO_PROXY")  # programs differ in which of the two they prefer
    hosts = [host.strip() for name in names for host in os.environ.get(name, "").split(",") if host.strip()]
    if "*" not in hosts:  # which exempts everything, but only alone
        os.environ.update(dict.fromkeys(names, ",".join(dict.fromkeys([*hosts, *LOOPBACK]))))


def flow_run_id() -> str:
    """The id of the Prefect run that this process belongs to; "" outside of a flow."""
    return os.environ.get(FLOW_RUN_ID, "")
