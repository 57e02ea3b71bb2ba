"""The terminal: driver, signals, clipboard, notifications, colours, clean text."""
