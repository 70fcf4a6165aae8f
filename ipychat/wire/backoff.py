"""Waiting times before a failed request is sent again."""

import random


def backoff(failures: int, first: float, longest: float) -> float:
    """Return the seconds to wait after `failures` earlier ones: `first`, doubled each time.

    At most `longest`, give or take a quarter at random, so that callers that failed together don't
    return together.
    """
    return min(first * 2.0**failures, longest) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
