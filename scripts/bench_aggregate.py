"""The peer of the replay bench: an aggregate as small as a device, in PyPI `eventsourcing`."""

from eventsourcing.domain import Aggregate, event


class Paired(Aggregate):
    """A device with one token that is rotated, and a label."""

    def __init__(self, key: str, role: str, scopes: list[str], issue: str) -> None:
        self.key, self.role, self.scopes, self.issue = key, role, scopes, issue
        self.retired: list[str] = []
        self.label = ""

    @event("Rotated")
    def rotate(self, issue: str) -> None:
        self.retired = [*self.retired, self.issue][-8:]
        self.issue = issue

    @event("Renamed")
    def rename(self, label: str) -> None:
        self.label = label
