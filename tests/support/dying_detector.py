"""``examples/train_detector.py`` whose process 1 is killed once, after the first epoch.

torchrun ... tests/support/dying_detector.py OPTIONS
"""

import os
import runpy
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "train_detector.py"
sys.path.insert(0, str(ROOT))


def main() -> None:
    from course_utils.training import checkpoints, distributed

    save = checkpoints.State.save
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"

    def save_and_die(self, file):
        save(self, file)
        if first and self.epoch == 1 and distributed.rank() == 1:
            Path(file).with_name("killed").touch()  # for the test to see
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.State.save = save_and_die
    runpy.run_path(str(SCRIPT), run_name="__main__")


if __name__ == "__main__":
    main()
