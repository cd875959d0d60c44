"""Lets one run of a repository work at a time, whatever its deployment and machine."""

import contextlib
import re
from collections.abc import Iterator
from functools import partial

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from earmark.addresses import without_passwords
from earmark.versioning import sharing
from flows import tasks

LEASE_SECONDS = 90
"""How long the turn of a run that died lasts; a living run renews it in time."""


@contextlib.contextmanager
def turn(repository: str) -> Iterator[None]:
    """Holds the turn of `repository`: waits for the run that has it, and makes later runs wait.

    "" stands for this clone's repository.

    Prefect's server counts: a global concurrency limit, which the first run makes.
    """
    name = limit_name(repository or _cloned())
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    # If the lease is lost, the run goes on: `publish` never overwrites what others published.
    take = partial(concurrency, name, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(take(max_retries=0))
        except ConcurrencySlotAcquisitionError as error:
            if not _is_taken(error):
                raise
            get_run_logger().info("waits: another run of this repository is at work (concurrency limit %r)", name)
            stack.enter_context(take())
        yield


def _is_taken(error: ConcurrencySlotAcquisitionError) -> bool:
    response = getattr(error.__cause__, "response", None)
    return response is not None and response.status_code == httpx.codes.LOCKED


def limit_name(repository: str) -> str:
    """The name of the limit, without a password and without characters that Prefect refuses."""
    return "retrain " + re.sub(r"[^\w.-]+", "-", sharing.without_ending(without_passwords(repository))).strip("-")


def _cloned() -> str:
    with contextlib.chdir(tasks.ROOT):
        return sharing.remote_address()
