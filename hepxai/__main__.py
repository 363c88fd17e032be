"""``python -m hepxai`` is the command ``hepxai``."""

from hepxai.cli import app

if __name__ == "__main__":  # worker processes import this file, too
    app(prog_name="hepxai")
