"""What this plugin offers: nothing yet. It installs and lists itself."""

from pl_kernel import hookimpl


@hookimpl
def pl_api() -> str:
    """Range of kernel hook APIs this plugin is written for."""
    return ">=1,<2"
