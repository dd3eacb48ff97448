"""Settings of a campaign, and the scenario files that it writes: one break of one command, to be repeated."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from derail.model.input_error import InputError, not_known
from derail.recovery.attempt import Program
from derail.recovery.breaks import Break
from derail.recovery.points import Point
from derail.recovery.trial import Demands

if TYPE_CHECKING:
    from pathlib import Path

    from derail.recovery.trial import Finding, Trial

TABLE = "survive"
_PROGRAM = ("argv", "cwd", "watch", "step", "copy", "env")
_DEMANDS = ("equal", "close", "same", "allow", "max_restarts", "limit")
_OTHERS = ("seed", "scale", "max_lost_steps", "max_recovery", "resume_by")


@dataclass(frozen=True, slots=True)
class Settings:
    """A campaign, as the user asks for it.

    Attributes:
        program: the command.
        demands: what the end of each run is held against; ``limit`` is replaced by one for the quiet run's duration.
        breaks: the kinds of break.
        points: maximum number of broken runs; None for all.
        budget: maximum seconds for the broken runs; None for no limit.
        seed: seed of the choice of points, and of torn data.
        scale: factor of the times of profiles.
        max_lost_steps: a finding beyond this number of lost steps.
        max_recovery: a finding beyond this number of seconds to the first step of the new start.
        resume_by: a run that resumes at an earlier step than this is a finding; None if only other runs tell that.
    """

    program: Program
    demands: Demands
    breaks: tuple[Break, ...]
    points: int | None = None
    budget: float | None = None
    seed: int = 0
    scale: float = 1.0
    max_lost_steps: int | None = None
    max_recovery: float | None = None
    resume_by: int | None = None


def write_file(path: Path, settings: Settings, trial: Trial, finding: Finding) -> None:
    """Write the file that repeats a run."""
    import msgspec

    plain = msgspec.to_builtins(replace(settings, resume_by=finding.step))
    lines = [f"# {trial.break_.words()} at {trial.point}: {finding.text}".replace("\n", " "), f"[{TABLE}]"]
    for table, names in ((plain["program"], _PROGRAM), (plain["demands"], _DEMANDS), (plain, _OTHERS)):
        lines += [f"{name} = {_toml(table[name])}" for name in names if table[name] not in (None, "", [], ())]
    for name, value in (("point", trial.point), ("break", trial.break_)):
        lines += ["", f"[{TABLE}.{name}]"]
        lines += [f"{key} = {_toml(item)}" for key, item in msgspec.to_builtins(value).items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def read_file(path: Path) -> tuple[Settings, Point]:
    """Return the campaign of a file and its only point.

    Raises:
        InputError: if it cannot be read, with all errors in it.
    """
    import msgspec

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))[TABLE]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except KeyError:
        raise InputError(f"{path}: has no table [{TABLE}]") from None
    known = (*_PROGRAM, *_DEMANDS, *_OTHERS, "point", "break")
    if strange := [key for key in table if key not in known]:
        raise InputError(*(f"{path}: {TABLE}.{not_known(key, known, 'key')}" for key in strange))
    try:
        program = msgspec.convert({name: table[name] for name in _PROGRAM if name in table}, Program)
        demands = msgspec.convert({name: table[name] for name in _DEMANDS if name in table}, Demands)
        point = msgspec.convert(table.get("point"), Point)
        kind = msgspec.convert(table.get("break"), Break)
        others: dict[str, Any] = {name: table[name] for name in _OTHERS if name in table}
        return Settings(program, demands, (kind,), **others), point
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {TABLE}: {error}") from None


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)
