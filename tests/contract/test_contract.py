"""The same cases against derail and against torch: what torch promises holds in both, its known faults in one only.

A case on torch may xfail in one way only: by showing the very facts that are written down as its fault. Any other
deviation fails. (The xfail marks are put on in conftest: they belong to a pair of case and implementation.)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from contract.registry import Case, KnownTorchFault, load_cases

if TYPE_CHECKING:
    from pathlib import Path

    from contract.conftest import Resident


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in load_cases().items()])
@pytest.mark.parametrize(
    "resident", ["derail", pytest.param("torch", marks=pytest.mark.torch)], indirect=True, scope="session"
)
def test_contract(resident: Resident, case: Case, tmp_path: Path) -> None:
    """Each case shows the facts that it states, on derail always, on torch unless its fault is known."""
    fault = case.fault if resident.implementation == "torch" else None
    answer = resident.run(case, tmp_path, deadline=fault.deadline if fault else case.deadline)
    facts = answer["facts"]
    if fault is not None and facts != case.expect and all(facts.get(k) == v for k, v in fault.seen.items()):
        raise KnownTorchFault(f"{fault.why}\nfacts: {facts}")
    assert facts == case.expect, f"{case.doc}\n{json.dumps(answer['console'], indent=1)}"
