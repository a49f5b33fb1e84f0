"""Command line: draw scenes, or check that those in a folder are what is drawn.

python -m experiments.scenes --out data/pedestrians
python -m experiments.scenes --out /tmp/more --count 1000 --seed 7
python -m experiments.scenes --check data/pedestrians
"""

import argparse
import sys
from collections.abc import Sequence

from experiments.scenes.files import SEED, check, write, write_sums


def _progress(done: int, count: int) -> None:
    if done % 10 == 0 or done == count:
        end = "\n" if done == count else ""
        print(f"\r{done} of {count} scenes", end=end, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; by default those of the shell.

    Returns:
        0 if all went well, 1 if not.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.scenes",
        description="Draw street scenes with people in the layout of Penn-Fudan.",
    )
    parser.add_argument("--out", metavar="FOLDER", help="write scenes to this folder")
    parser.add_argument(
        "--check", metavar="FOLDER", help="draw again and compare every pixel and sum"
    )
    parser.add_argument("--count", type=int, default=170, help="how many (170)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"which set ({SEED})")
    parser.add_argument("--test", type=int, help="how many go to test.txt (50 of 170)")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.check is None):
        parser.error("give either --out FOLDER or --check FOLDER")
    try:
        if options.check is not None:
            wrong = check(options.check, options.count, options.seed, _progress)
            for line in wrong:
                print(line, file=sys.stderr)
            print("differences: " + str(len(wrong)))
            return 1 if wrong else 0
        folder = write(
            options.out, options.count, options.seed, options.test, _progress
        )
        write_sums(folder)
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
