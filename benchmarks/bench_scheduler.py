"""What saturates first when pl runs on many machines: one Dask scheduler, and hundreds of workers in another process.

The workers do no work: an item of ``ctx.map`` is a short sleep, so everything that is left is the price of handing
items out.  Processor time is that of this process, scheduler and client together: unlike wall time it says something
on a machine where the workers of the simulation share the processors with the scheduler.

    python benchmarks/bench_scheduler.py [--workers 200] [--items 600]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

import psutil

# A VLA-like execution block: stages that map, and items of each (spws, antennas, targets, channel ranges, plots).
STAGES, ITEMS_PER_STAGE, PLOTS = 30, 32, 600
ITEMS_PER_BLOCK = STAGES * ITEMS_PER_STAGE + PLOTS
BLOCKS_PER_DAY = 1000
CORE_HOURS_PER_BLOCK = 4.0
"""Assumed work in one execution block: a serial run of some hours; change it for your data."""


async def nap(_content: bytes, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


async def crew(address: str, workers: int) -> None:
    """Workers with one place each, all in this process, until the scheduler ends."""
    from dask.distributed import Worker

    hands = [Worker(address, nthreads=1, memory_limit=0, dashboard_address=":0") for _ in range(workers)]
    await asyncio.gather(*hands)
    await asyncio.gather(*(hand.finished() for hand in hands))


async def hand_out(workers: int, items: int, seconds: float, size: int) -> dict[str, float]:
    """Hand out items to so many workers; return what it took."""
    from dask.distributed import Client, Scheduler

    async with Scheduler(port=0, host="127.0.0.1", dashboard_address=":0") as scheduler:
        words = [sys.executable, __file__, "--crew", scheduler.address, "--workers", str(workers)]
        helper = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with Client(scheduler.address, asynchronous=True) as client:
                await client.wait_for_workers(workers, timeout=120)
                await client.gather(client.map(nap, [b""] * workers, [0.0] * workers, pure=False))
                content = [os.urandom(size) for _ in range(16)]
                own = psutil.Process()
                before, begin = sum(own.cpu_times()[:2]), time.perf_counter()
                futures = [client.submit(nap, content[n % 16], seconds, pure=False) for n in range(items)]
                await client.gather(futures)
                took = time.perf_counter() - begin
                used = sum(own.cpu_times()[:2]) - before
                memory = own.memory_info().rss / 2**20
        finally:
            helper.terminate()
            await helper.wait()
    return {"seconds": took, "rate": items / took, "cpu": used / items, "memory": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--crew", help=argparse.SUPPRESS)
    options = parser.parse_args()
    import dask

    # Before distributed is imported.  Hundreds of workers share one loop here: their ticks and samples are not the
    # scheduler's work.
    quiet = {"logging.distributed": "critical", "distributed.worker.profile.enabled": False}
    dask.config.set({**quiet, "distributed.admin.tick.interval": "10 s", "distributed.scheduler.work-stealing": False})
    if options.crew:
        asyncio.run(crew(options.crew, options.workers))
        return 0
    version = f"Python {sys.version.split()[0]}, Dask {dask.__version__}"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {version}\n")
    print("workers   items   item    data   items/s   processor per item   ideal rate   memory", flush=True)
    rates = []
    for workers, size, seconds in (
        (options.workers // 10, 60_000, 0.0), (options.workers // 4, 60_000, 0.0), (options.workers, 0, 0.0),
        (options.workers, 60_000, 0.0), (options.workers, 60_000, 5.0),
    ):  # fmt: skip
        found = asyncio.run(hand_out(workers, options.items, seconds, size))
        ideal = f"{workers / seconds:8.0f}/s" if seconds else "         -"
        print(
            f"{workers:7d} {options.items:7d} {seconds:4.1f} s {size // 1000:4d} kB {found['rate']:9.0f} "
            f"{1000 * found['cpu']:17.2f} ms {ideal:>12} {found['memory']:7.0f} MiB", flush=True,
        )  # fmt: skip
        if size and not seconds:
            rates.append((workers, found["rate"], found["cpu"]))
    _, rate, cpu = rates[-1]
    needed = BLOCKS_PER_DAY * ITEMS_PER_BLOCK / 86400
    cores = BLOCKS_PER_DAY * CORE_HOURS_PER_BLOCK / 24
    print(f"\n{BLOCKS_PER_DAY} execution blocks a day of {ITEMS_PER_BLOCK} items: {needed:.1f} items/s on average")
    print(f"handed out here, wall time: {rate:.0f}/s; by processor time ({1000 * cpu:.1f} ms each): {1 / cpu:.0f}/s")
    print(f"cores for the work itself, {CORE_HOURS_PER_BLOCK:g} core hours a block: {cores:.0f}, all day")
    print(f"blocks a day at which one processor is full of handing out: {BLOCKS_PER_DAY / cpu / needed:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
