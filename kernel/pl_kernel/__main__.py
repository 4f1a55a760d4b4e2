"""``python -m pl_kernel`` is ``pl``."""

from .cli import main

if __name__ == "__main__":
    main()
