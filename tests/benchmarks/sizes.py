"""What a clip takes, in bytes: what the calculation in docs/scaling.md starts from.

Run in a project with raw shards as `python -m tests.benchmarks.sizes`: prints names and bytes as JSON.
"""

import json
import pickle

from earmark import params
from earmark.dataset import shards
from earmark.features import front_ends
from earmark.paths import RAW
from earmark.stages import extract


def sizes() -> dict[str, float]:
    """Bytes of a clip on disk and in memory, and of a job."""
    settings = params.load()
    members = shards.read_members(RAW)
    fullest = members.groupby("shard")["shard"].count().max()
    clips = {name: front_ends.front_end(name, settings) for name in ("log_mel", "spectrogram")}
    plan = extract.plan_of(settings)
    plan.prepare_folder()
    jobs = [pickle.dumps(job) for job in plan.jobs()]
    return {
        "a clip in a raw shard": sum(path.stat().st_size for path in RAW.glob("*.tar")) / len(members),
        "clips in a raw shard": float(fullest),
        **{f"a clip as {name}": 2.0 * front_end.frames * front_end.bins for name, front_end in clips.items()},
        "the manifest in memory, a clip": members.memory_usage(deep=True).sum() / len(members),
        "a job for a worker, a shard": float(max(map(len, jobs))),
    }


if __name__ == "__main__":
    print(json.dumps(sizes()))
