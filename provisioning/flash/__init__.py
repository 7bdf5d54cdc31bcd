"""An artefact onto drives: look, judge, ask, write, read back, personalise. `docs/flashing.md` is the page for people.

`target.py` looks at a drive, `refusals.py` judges it (pure), `disk.py` is the one place that writes, `job.py` is one
drive's way from erased to whole, `pipeline.py` feeds several of them from one reading.
"""
