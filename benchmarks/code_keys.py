"""What the key of code costs in modules of many functions and classes: it must grow as the text does, and no faster.

python -m benchmarks.code_keys [FUNCTIONS ...]
"""

from __future__ import annotations

import importlib
import math
import sys
import tempfile
import time
from pathlib import Path

from penstock.digests.sources import task_code, task_source

SIZES = (500, 1000, 2000, 4000)


def measure(functions: int) -> dict[str, float]:
    """Seconds for the digests of all functions, and of all that they reach, of one module that is read afresh."""
    name = f"many_{functions}_{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(
            f"class C{n}:\n    def go(self, x):\n        return x * {n}\n\n"
            f"def helper{n}(x):\n    return C{n}().go(x)\n\ndef f{n}(x, by={n}):\n    return helper{n}(x) + by\n\n"
            for n in range(functions)
        )
        Path(folder, f"{name}.py").write_text(text, encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            module = importlib.import_module(name)
            found = [getattr(module, f"f{n}") for n in range(functions)]
            began = time.perf_counter()
            for fn in found:
                task_source(fn)
            sources = time.perf_counter() - began
            for fn in found:
                task_code(fn)
            return {"TASK_SOURCE": sources, "TASK_CODE": time.perf_counter() - began - sources}
        finally:
            sys.path.remove(folder)
            sys.modules.pop(name, None)


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """By which power of the size the time grows, from the smallest to the largest."""
    return math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])


def main(sizes: tuple[int, ...] = SIZES) -> None:
    """Print milliseconds a function, and the exponent."""
    rows = {size: measure(size) for size in sizes}
    for policy in next(iter(rows.values())):
        seconds = [rows[size][policy] for size in sizes]
        each = ", ".join(f"{size}: {1000 * s / size:.3f} ms" for size, s in zip(sizes, seconds, strict=True))
        print(f"{policy}: {each} a function; exponent {exponent(sizes, seconds):.2f}")


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
