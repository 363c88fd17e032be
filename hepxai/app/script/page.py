"""Script of the page, started by `hepxai app`; in a folder of its own, which streamlit puts on the path."""

from __future__ import annotations

if __name__ == "__main__":  # not in the processes of calculations, which import this file, too
    from hepxai.app import jobs

    jobs.prepare()  # while this process imports the rest
    from hepxai.app.main import main

    main()
