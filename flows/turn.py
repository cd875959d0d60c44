"""Lets one run of a repository work at a time, whatever its deployment and machine."""

import contextlib
import re
from collections.abc import Iterator
from functools import partial

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
    """Waits until no other run of `repository` is at work, and keeps others waiting; "" is this clone's repository.

    Prefect's server counts: a global concurrency limit, which the first run makes.
    """
    name = limit_name(repository or _cloned())
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    # A training of days goes on if the server forgets its turn: what others publish meanwhile is not overwritten.
    take = partial(concurrency, name, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(take(max_retries=0))
        except ConcurrencySlotAcquisitionError:
            get_run_logger().info("waits: another run of this repository is at work (concurrency limit %r)", name)
            stack.enter_context(take())
        yield


def limit_name(repository: str) -> str:
    """The name of the limit, without a password and without characters that Prefect refuses."""
    return "retrain " + re.sub(r"[^\w.-]+", "-", sharing.without_ending(without_passwords(repository))).strip("-")


def _cloned() -> str:
    with contextlib.chdir(tasks.ROOT):
        return sharing.remote_address()
