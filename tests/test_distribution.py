import json
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("mirrored_process.py")


def test_two_devices_learn_what_one_does():
    # Devices are set before TensorFlow starts: in a process of its own.
    result = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    report, refusal = json.loads(result.stdout.strip().splitlines()[-1])
    for name, (difference, skipped, also_skipped, _) in report.items():
        assert difference < 1e-5, name
        assert skipped == also_skipped == (3 if name == "bad batch" else 0), name
    masks = {str(kept) for *_, kept in report.values()}
    assert len(masks) == len(report)  # each case does something else
    assert "a strategy of 2 replicas" in refusal
