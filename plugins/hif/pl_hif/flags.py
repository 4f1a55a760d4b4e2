"""Flag counts, under the name that the stages of this family know them by; the kernel has them for everybody."""

from pl_kernel.flagcounts import KEYS, FlagCounts, counts, list_counts, summary

__all__ = ["KEYS", "FlagCounts", "counts", "list_counts", "summary"]
