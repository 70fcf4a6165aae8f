"""What GeneralCodingAgent sees of the notebook: names and summaries."""

from ipychat.context import values

MAX_NAMES = 20
BUDGET = 300
"""Characters per summary."""


def describe() -> str:
    """Describe the names that the notebook has defined; empty outside a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return ""
    hidden = shell.user_ns_hidden
    names = [n for n in shell.user_ns if not n.startswith("_") and n not in hidden]
    if not names:
        return ""
    described = [values.summarise(n, shell.user_ns[n], BUDGET) for n in names[-MAX_NAMES:]]
    more = f"\n\n… and {len(names) - MAX_NAMES} more names" if len(names) > MAX_NAMES else ""
    return "The notebook has defined:\n\n" + "\n\n".join(described) + more
