"""`earmark fetch` and `earmark publish`: bring in what other clones of the team published, and publish results."""

from earmark.params import Params
from earmark.registry import versions
from earmark.reporting.terminal import sharing as report
from earmark.versioning import sharing


def fetch(repository: str, branch: str) -> str:
    """Brings in commits and data; returns a sentence.

    Raises:
        UserError: the clone is not as expected or has changes, or a remote does not answer.
    """
    update = sharing.bring_in(repository, branch or sharing.current_branch())
    return report.brought_in(update.commits, update.objects)


def publish(params: Params) -> str:
    """Publishes data, dvc.lock, metrics, and a tag for the commit of each version of this branch; returns a sentence.

    Data goes first: whoever has the commit can get what it names. Running it again publishes what failed before.

    Raises:
        UserError: a remote does not answer or refuses, or others have published results meanwhile.
    """
    objects = sharing.push_data()
    sharing.commit_results()
    commits = sharing.push_commits()
    registered = versions.open_registry(params.register_.name).versions()
    tagged = {f"{version.name}-v{version.number}": version.tags.get("git_commit", "") for version in registered}
    return report.published(objects, commits, sharing.push_tags(tagged))
