"""`python -m benchmarks`: take figures, compare them with those of another version, write them into the README.

python -m benchmarks [NAME …] [--json FILE]               each figure beside its promise
python -m benchmarks --keep [NAME …]                      the same, kept for this version, and in the README
python -m benchmarks compare --against CHECKOUT [NAME …]  in turn with another checkout's package: what takes longer?
python -m benchmarks readme [--check]                     the README's table from the figures that are kept
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import comparing, readme
from benchmarks.figures import show, to_json
from benchmarks.sampling import MEASUREMENTS, QUICK, sample


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["compare"]:
        _compare(arguments[1:])
    elif arguments[:1] == ["readme"]:
        _readme(arguments[1:])
    else:
        _measure(arguments)


def _measure(arguments: list[str]) -> None:
    parser = _parser("take figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write them into this file; what else it has stays")
    parser.add_argument("--keep", action="store_true", help="keep them for this version, and write the README's table")
    chosen = parser.parse_args(arguments)
    files = [path for path in (chosen.json, readme.kept_file() if chosen.keep else None) if path is not None]
    for name in _known(parser, chosen.names) or MEASUREMENTS:
        found = sample(name)
        show(found)
        for path in files:
            to_json({name: found}, path)  # one by one, so that whatever ends this leaves what there is
    if chosen.keep:
        readme.write()


def _compare(arguments: list[str]) -> None:
    parser = _parser("compare with another checkout, run in turn on this machine")
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT", help="a folder with its penstock/")
    parser.add_argument("--samples", type=int, default=5, help="of each measurement and checkout (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples into this file")
    chosen = parser.parse_args(arguments)
    if not (chosen.against / "penstock" / "__init__.py").is_file():
        parser.error(f"there is no penstock/ in {chosen.against}")
    names = _known(parser, chosen.names) or list(QUICK)
    if comparing.compare(names, chosen.against, samples=chosen.samples, json_file=chosen.json):
        sys.exit(1)


def _readme(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks readme", description="the README's table of figures")
    parser.add_argument("--check", action="store_true", help="only say whether it is as the figures are")
    if not parser.parse_args(arguments).check:
        readme.write()
    elif not readme.is_current():
        sys.exit("the README's table is not the one that `python -m benchmarks readme` writes")


def _parser(what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=what)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}")
    return parser


def _known(parser: argparse.ArgumentParser, names: list[str]) -> list[str]:
    for name in names:
        if name not in MEASUREMENTS:
            parser.error(f"no measurement is called {name}; there are {', '.join(MEASUREMENTS)}")
    return names


if __name__ == "__main__":
    main(sys.argv[1:])
