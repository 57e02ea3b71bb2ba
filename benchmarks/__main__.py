"""All measurements, one after another, in about three quarters of an hour on two cores: python -m benchmarks"""

from __future__ import annotations

import subprocess
import sys

for module, options in (("throughput", []), ("decoding", []), ("growth", []), ("memory", []), ("first_frame", []),
                        ("keys", []), ("labelling", []), ("traffic", []), ("charts", []), ("screen", []),
                        ("learning", ["animals"])):
    print(f"--- benchmarks.{module}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], check=True)
