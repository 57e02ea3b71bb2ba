"""All measurements, one after another: python -m benchmarks"""

from __future__ import annotations

import subprocess
import sys

for module, options in (("screen", []), ("learning", ["animals"])):
    print(f"--- benchmarks.{module}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], check=True)
