"""Tables from nothing but videos and trained runs: every step a command that a person could type, resumable.

    python -m tools.reproduce table1 videos=DIR       all systems on a folder of talking videos, one person each
    python -m tools.reproduce table2                  three ablations, trained here on synthetic speakers
    python -m tools.reproduce table3 ethd=RUN         synthetic speakers, 120 to 1500 frames, and the drift

Of every table: proxies=DIR (trained proxies for the metrics' networks), device=cpu or cuda, output=DIR.
table1: ethd=RUN (an exported run; without it these rows say that they were not run), size=PIXELS of EmotiveTalk's
frames and of the real ones, clips=N at most, frames=N of each clip, dataset=NAME of the block in the table, and
installed=SYSTEM:REPOSITORY:PYTHON,... for published systems that are on this machine.
table2: seed=N (three of them give intervals), steps=N at most of each training, clips=N and seconds=S of the test,
identities=N and clips_per_identity=N of the training.
table3: clips=N of each length.

Each ends with ``evaluate.py table=N`` in its folder. Interrupted, the same command goes on; delete the folder to begin
anew.
"""
