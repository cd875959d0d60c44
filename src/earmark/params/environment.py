"""What the environment says of how earmark is run; nothing in it changes a result."""

import os

FLOW_RUN_ID = "EARMARK_FLOW_RUN_ID"
"""The variable of the environment in which a flow says what its run is called."""


def flow_run_id() -> str:
    """What Prefect calls the run that this process belongs to; "" where there is none."""
    return os.environ.get(FLOW_RUN_ID, "")
