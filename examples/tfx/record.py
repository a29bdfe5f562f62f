"""Records what the tests read without TFX: runs the pipeline three times, and keeps its ML Metadata and a part of its files.

`examples/tfx/run --record` starts it. The runs are those for two events of the source `/record`: one for `first`, which is whole, and
two for `second`; one fails in the Trainer since the device is taken, the other is whole and takes what that had finished from
there. All URIs in the store are relative to the folder. Left out are the copies: the Trainer's model and the served one are what Pusher kept.
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "iris"))

import emit  # noqa: E402
import train  # noqa: E402
from retrain import TAKEN  # noqa: E402

TARGET = HERE / "recorded"
LEFT_OUT = ("artifacts/Trainer/model/*", "artifacts/*/.system", "served", "data")


def run(home, id, number, *, fails=False):
    """One run of the pipeline, which must end as it is meant to."""
    name = emit.run_name({"id": id, "source": "/record"}, number)
    print(name, flush=True)
    command = [sys.executable, "-B", str(HERE / "pipeline.py"), str(home), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    if (done.returncode != 0) != fails:
        sys.exit(f"the run {name} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def main():
    """From an empty folder to `recorded/`."""
    with tempfile.TemporaryDirectory(prefix="annals-tfx-") as folder:
        home = Path(folder)
        data = train.write_data(home / "seasons")
        (home / "data").mkdir()
        shutil.copy(data["iris-train"], home / "data")
        run(home, "first", 1)
        shutil.copy(data["iris-shifted-train"], home / "data")
        (home / TAKEN).touch()
        run(home, "second", 1, fails=True)
        (home / TAKEN).unlink()
        run(home, "second", 2)
        for pattern in LEFT_OUT:
            for path in home.glob(pattern):
                shutil.rmtree(path)
        shutil.rmtree(TARGET, ignore_errors=True)
        TARGET.mkdir()
        shutil.copytree(home / "artifacts", TARGET / "artifacts")
        store = sqlite3.connect(home / emit.STORE)
        store.execute("VACUUM INTO ?", [str(TARGET / emit.STORE)])
        store.close()
    print(f"recorded: {TARGET}")


if __name__ == "__main__":
    main()
