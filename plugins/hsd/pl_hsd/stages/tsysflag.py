"""hsd_tsysflag: flag bad system temperatures."""

from __future__ import annotations

from pl_kernel.common.tsysflag import TsysFlag


class HsdTsysFlag(TsysFlag):
    __doc__ = TsysFlag.__doc__

    name = "hsd_tsysflag"
