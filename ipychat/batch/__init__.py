"""Many prompts: one template over rows of data, asked concurrently, and resumable."""

from ipychat.batch.results import Plan as Plan, Progress as Progress, Results as Results, Row as Row
from ipychat.batch.run import Batch as Batch, How as How, map as map, plan as plan  # noqa: A004 - ipychat.map
