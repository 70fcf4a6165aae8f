"""How long to wait before a request that failed is sent again."""

import random


def backoff(failures: int, first: float, longest: float) -> float:
    """Return the seconds to wait after `failures` before this one: `first`, doubled after each.

    They are never more than `longest`, and then vary by a quarter, so that callers that failed
    together don't come back together.
    """
    return min(first * 2.0**failures, longest) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
