"""A script as a job: what it varies, and, once it is complete, every request that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.core.request import GenerationRequest, known_fields
from webui.core.scripts.plan import Plan, Sheet, Step, making_order


@dataclass(frozen=True, kw_only=True)
class ScriptRequest:
    """base: what the script varies; after completion its first request, and nothing is left open.

    changes: after completion, for each step its name and the fields in which its request is not `base`, as plain data.
    made: step -> the files of its pictures, where an earlier try has made them; it is not stored.
    """

    base: GenerationRequest
    script: str  # title
    arguments: Mapping[str, Any] = field(default_factory=dict)  # by name
    changes: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    sheet: Sheet | None = None
    made: Mapping[int, tuple[Path, ...]] = field(default_factory=dict)

    def planned(self, plan: Plan) -> "ScriptRequest":
        """This script with a plan of complete requests, of which there is at least one."""
        base = plan.steps[0].request
        ground = base.to_json()
        changes = tuple((step.name, _difference(ground, step.request.to_json())) for step in plan.steps)
        return ScriptRequest(base=base, script=self.script, arguments=self.arguments, changes=changes, sheet=plan.sheet)

    @property
    def plan(self) -> Plan:
        """What `planned` was given."""
        ground = self.base.to_json()
        return Plan(tuple(Step(name, GenerationRequest.from_json({**ground, **told})) for name, told in self.changes), self.sheet)

    def resumed(self, files: Mapping[int, tuple[Path, ...]]) -> "ScriptRequest":
        """This script without the steps all of whose pictures are in `files`, by step."""
        steps = self.plan.steps
        counts = [step.request.batch_size * step.request.batch_count for step in steps]
        return replace(self, made={index: files[index] for index in range(len(steps)) if len(files.get(index, ())) == counts[index]})

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"{self.script}, {len(self.changes)} steps"

    @property
    def lone(self) -> bool:
        """Whether the single pictures belong to the result once there is a sheet."""
        return self.sheet is None or self.sheet.lone

    @property
    def last_models(self) -> tuple[str, str]:
        """Checkpoint and VAE of the request that is made last."""
        requests = [step.request for step in self.plan.steps]
        last = requests[making_order(requests)[-1]]
        return last.checkpoint, last.vae

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal request."""
        return {
            "base": self.base.to_json(),
            "script": self.script,
            "arguments": dict(self.arguments),
            "changes": [[name, dict(told)] for name, told in self.changes],
            "sheet": self.sheet.to_json() if self.sheet else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ScriptRequest":
        values = known_fields(cls, data)
        values["base"] = GenerationRequest.from_json(values["base"])
        values["changes"] = tuple((str(name), dict(told)) for name, told in values.get("changes", ()))
        values["sheet"] = Sheet.from_json(values["sheet"]) if values.get("sheet") else None
        return cls(**values)


def _difference(ground: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in other.items() if value != ground.get(key)}
