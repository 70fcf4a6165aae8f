"""The table of faults in the documentation is what happens."""

import pytest

from tests import faults
from tests.protocols import PROTOCOLS


@pytest.mark.heavy
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
async def test_each_fault_has_the_outcome_that_the_documentation_says(protocol):
    heads, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in faults.PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    column = heads.index(protocol.heading)
    said = {row[0]: row[column] for row in rows}
    assert await faults.outcomes(protocol) == said
    assert not [outcome for outcome in said.values() if outcome.isupper()]
    assert "NOT WHOLE" not in str(said)
    assert "LOST" not in str(said)
