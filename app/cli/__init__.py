"""The command line: `python -m app …`. Heavy imports stand inside the commands, so that --help is quick."""
