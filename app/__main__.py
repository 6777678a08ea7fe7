"""`python -m app`: the command line."""

import sys


def main() -> None:
    """Runs the command; `health`, which containers ask for again and again, without loading the others."""
    if sys.argv[1:2] == ["health"] and "--help" not in sys.argv:
        from app.cli.health import main as health

        raise SystemExit(health(sys.argv[2:]))
    from app.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
