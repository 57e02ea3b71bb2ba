"""The machine, what the engine printed, and alarms."""
