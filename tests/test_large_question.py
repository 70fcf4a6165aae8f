"""A large question goes through every stage without holding the loop."""

import pytest

from tests.test_magics import PATH, echo
from tests.watch import Watch, slowness

pytestmark = pytest.mark.kernel
BOUND = 0.010


@pytest.fixture(scope="module")
def fork():
    return False


def test_a_pdf_of_20_mib_holds_the_loop_for_no_longer_than_any_cell(shared, tmp_path):
    kernel, service = shared
    (tmp_path / "large.pdf").write_bytes((b"%PDF-1.7\n" + b"\x00page" * (4 << 20))[: 20 << 20])
    service.on(PATH, echo)
    kernel.run("%chat hi")
    cell = f"%chat --large --no-history --file {tmp_path / 'large.pdf'} hi"
    for _ in range(3):
        with Watch(kernel) as watch:
            ran = kernel.run(cell)
        assert ran.status == "ok", ran.error
        if watch.longest <= BOUND * slowness():
            return
    pytest.fail(str(watch))
