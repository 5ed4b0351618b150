"""A run to look at: one page that replays it in any browser, and a recording for rerun's viewer.

    python -m sims.compare --report crossing.html

`replay` says what there is to see, `document` packs it, `page` makes the one file of it, `rrd` the recording.
"""
