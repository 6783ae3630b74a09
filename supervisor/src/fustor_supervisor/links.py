"""Which data links must be made anew; pure bookkeeping."""

from collections.abc import Callable, Sequence

from fustor_supervisor.specs import LinkSpec


class Links:
    """Remembers which links have an end whose process does not hold one yet."""

    def __init__(self) -> None:
        self._specs: dict[str, LinkSpec] = {}
        self._due: set[str] = set()

    def change(self, specs: Sequence[LinkSpec]) -> None:
        """Take the links of a new plan; those that are new or join others than before are due."""
        old = self._specs
        self._specs = {spec.name: spec for spec in specs}
        kept = {name for name in self._due if name in self._specs}
        self._due = kept | {name for name, spec in self._specs.items() if old.get(name) != spec}

    def note_spawned(self, worker: str) -> None:
        """Note that a worker has a new process, which holds no link end."""
        self._due |= {spec.name for spec in self._specs.values() if worker in (spec.source, spec.target)}

    def take_due(self, is_up: Callable[[str], bool]) -> list[LinkSpec]:
        """Take the links that are due and whose two workers can be given an end."""
        due = [spec for spec in self._specs.values() if spec.name in self._due]
        ready = [spec for spec in due if is_up(spec.source) and is_up(spec.target)]
        self._due -= {spec.name for spec in ready}
        return ready

    def put_back(self, link: LinkSpec) -> None:
        """Make a link due again that could not be made."""
        self._due.add(link.name)
