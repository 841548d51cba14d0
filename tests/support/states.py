"""``docs/states.md`` from the tables of the core: ``just states``."""

from __future__ import annotations

import enum
import re
import sys

from seekfs_core.states import MACHINES, Machine

HEAD = """# States

Made from the tables in `seekfs_core` by `just states`; a test fails where it is not what they say. What is in
no row is refused with `ContractViolation`, and changes nothing.
"""


def _id(state: enum.Enum) -> str:
    return re.sub(r"\W", "_", state.name)


def _diagram(machine: Machine) -> list[str]:
    rows = list(machine.rows())
    states = list(type(rows[0].state))
    edges: dict[tuple[enum.Enum, enum.Enum], list[str]] = {}
    for row in rows:
        for landing in row.landings:
            edges.setdefault((row.state, landing), []).append(row.event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_id(states[0])}"]
    lines += [f"    {_id(state)}: {state.value}" for state in states if isinstance(state.value, str)]
    lines += [
        f"    {_id(start)} --> {_id(stop)}: {', '.join(event.replace(':', ' ') for event in events)}"
        for (start, stop), events in edges.items()
        if start is not stop
    ]
    return [*lines, "```"]


def page() -> str:
    """All of the page."""
    lines = [HEAD]
    for machine in MACHINES:
        lines += [f"## The states of {machine.what}", "", f"`seekfs_core/{machine.module}.py`", ""]
        lines += [*_diagram(machine), "", "| in | when | then |", "|---|---|---|"]
        for row in machine.rows():
            landings = ", ".join(landing.name for landing in row.landings)
            lines.append(f"| {row.state.name} | {row.event} | {landings} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
