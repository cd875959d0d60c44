"""Environment variables that say how earmark is run; none of them changes a result."""

import os
import re

from earmark.errors import UserError

FLOW_RUN_ID = "EARMARK_FLOW_RUN_ID"
"""Environment variable with Prefect's id of the flow run; set by the flow."""
SCHEDULER = "EARMARK_SCHEDULER"
"""Environment variable with the address of a Dask scheduler for extraction; if not set, this machine extracts."""


def scheduler() -> str:
    """The address of the Dask scheduler, "" for none.

    Raises:
        UserError: the value is not an address.
    """
    address = os.environ.get(SCHEDULER, "")
    if address and not re.fullmatch(r"tcp://(\[[0-9a-f:]+\]|[^\s:/\[\]]+):\d{1,5}", address):
        raise UserError(f"{SCHEDULER}: {address!r} is not an address; expected tcp://host:port, or an unset variable")
    return address


def flow_run_id() -> str:
    """The id of the Prefect run that this process belongs to; "" outside of a flow."""
    return os.environ.get(FLOW_RUN_ID, "")
