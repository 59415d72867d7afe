"""Crafted and damaged inputs by the thousand: `python Testing/fuzz [--share S] [--random-seed N] [TARGET ...]`.

Each input ends in a TumorQueryError, in the right answer, or in one that is known to be another's
(see the targets). A crash, a hang, another exception or a wrong answer that nothing tells is a
fault; the exit status is 1 where one was found, and its number reproduces it:
`python Testing/fuzz TARGET --only NUMBER`.
"""

import argparse
import sys

from fuzz_harness import TARGETS, child, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=[], metavar="TARGET", help=f"of {', '.join(TARGETS)}; all")
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of inputs (1)")
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try this input alone, and show its traceback")
    parser.add_argument("--child", nargs=2, type=int, metavar=("FIRST", "STOP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"there is no target {name}")
    if options.child is not None:
        child(options.targets[0], options.random_seed, *options.child)
        sys.exit()
    if options.only is not None:
        child(options.targets[0], options.random_seed, options.only, options.only + 1, show=True)
        sys.exit()
    faults = 0
    for name in options.targets or TARGETS:
        tally = run(name, max(1, round(options.share * TARGETS[name])), options.random_seed)
        print(tally, flush=True)
        faults += len(tally.faults)
    sys.exit(faults > 0)
