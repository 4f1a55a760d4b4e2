"""What the kernel's own plugin offers."""

from pl_kernel.hookspecs import hookimpl


@hookimpl
def pl_api() -> str:
    """Range of kernel hook APIs this plugin is written for."""
    return ">=1,<2"
