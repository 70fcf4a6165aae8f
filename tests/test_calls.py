"""What a cell costs in calls: a question is made once, resolved once, and carried whole."""

import json

import pytest

from tests.kernels import Kernel

COUNT = """
import sys, threading, collections, ipychat
calls, counting = collections.Counter(), False
root = ipychat.__path__[0]

def count(frame, event, _):
    code = frame.f_code
    if counting and event == "call" and code.co_filename.startswith(root):
        calls[f"{code.co_filename[len(root) + 1:-3].replace('/', '.')}:{code.co_qualname}"] += 1

threading.setprofile(count)
sys.setprofile(count)
"""


@pytest.fixture(scope="module", params=["FrontEndAgent", "robocoders:FrontEndAgent"])
def calls(request, tmp_path_factory):
    """How often each function ran for a warm cell that the helper answers through the gateway."""
    home = tmp_path_factory.mktemp("home")
    kernel = Kernel({"IPYCHAT_HOME": str(home), "IPYCHAT_SERVERS": "off"})
    cell = f"%%chat --model {request.param}\nWhat can you do?"
    for code in ("%load_ext ipychat", COUNT, cell, cell):
        assert kernel.run(code).status == "ok"
    found = []
    for _ in range(3):  # a cell that waits for a busy machine is painted more often
        for code in ("calls.clear(); counting = True", cell, "counting = False"):
            assert kernel.run(code).status == "ok"
        found.append(json.loads(kernel.run("import json; print(json.dumps(calls))").stdout))
    kernel.close()
    return min(found, key=lambda calls: sum(calls.values()))


pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        "sys.version_info[:2] != (3, 11)",
        reason="from 3.12 on a comprehension is no call: the bound is for 3.11",
    ),
]


def test_a_warm_cell_takes_few_calls(calls):
    assert 500 < sum(calls.values()) <= 1_600


@pytest.mark.parametrize(
    ("function", "most"),
    [
        ("catalog.resolve:resolve_question", 1),  # the gateway's side is told whom to ask
        ("catalog.resolve:resolve", 3),  # the name, and on each side who answers behind the gateway
        ("catalog.routes:find", 2),  # a route on each side
        ("messages:parse_messages", 2),  # and messages
        ("catalog.registry:load", 10),
    ],
)
def test_nothing_is_looked_up_twice(calls, function, most):
    assert 1 <= calls[function] <= most


def test_a_full_scan_of_what_is_offered_is_not_on_the_way(calls):
    assert "catalog.offers:offers" not in calls
