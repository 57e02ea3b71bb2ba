"""What there is to know of each method before a tensor exists: settings, needs, metrics, alarms. How they learn stands
in `algorithms`."""
