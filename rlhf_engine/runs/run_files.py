"""What the files of a run are called, in its directory.

    config.toml     the configuration as started        run.json       preset, time and version of the start
    edits.jsonl     every live change since             status.json    state, step and process, replaced atomically
    metrics.jsonl   one line a step                     run.lock       flock: who holds it drives the run
    samples.jsonl   some responses of each step         checkpoints/   see checkpoint.py
    alarms.jsonl    what went wrong, and at which step
    probes.jsonl    answers to one prompt through time  note.txt       what a person wrote about it
    reward_models/  versions of reward models that learnt on within the run, see reward_versions.py
    output.log      what reward functions, libraries and child processes printed, and tracebacks
"""

from __future__ import annotations

CONFIG, ABOUT, STATUS, LOCK, NOTE = "config.toml", "run.json", "status.json", "run.lock", "note.txt"
METRICS, SAMPLES, EDITS, ALARMS = "metrics.jsonl", "samples.jsonl", "edits.jsonl", "alarms.jsonl"
PROBES = "probes.jsonl"
OUTPUT = "output.log"
REWARD_MODELS = "reward_models"
